# What the R workers share: reading a case, timing, memory, and the loop that answers commands as worker.py does.
seconds <- function() as.numeric(Sys.time())
number <- function(x) ifelse(is.na(x), "null", sprintf("%.17g", x))
array <- function(x) sprintf("[%s]", paste(number(x), collapse = ", "))
strings <- function(x) sprintf("[%s]", paste(sprintf('"%s"', x), collapse = ", "))

# The columns that cases.py or glmm_cases.py wrote; a .levels file makes a factor of codes from 0.
read_columns <- function(folder) {
  files <- list.files(folder, pattern = "\\.(float|int)$", full.names = TRUE)
  columns <- lapply(files, function(file) {
    whole <- grepl("\\.int$", file)
    size <- if (whole) 4L else 8L
    values <- readBin(file, if (whole) "integer" else "double", n = file.size(file) / size, size = size)
    labels <- sub("\\.int$", ".levels", file)
    if (whole && file.exists(labels)) {
      labels <- readLines(labels)
      values <- factor(labels[values + 1L], labels)
    }
    values
  })
  names(columns) <- sub("\\.(float|int)$", "", basename(files))
  as.data.frame(columns)
}

status <- function(field) {
  lines <- readLines("/proc/self/status")
  1024 * as.numeric(gsub("[^0-9]", "", lines[startsWith(lines, paste0(field, ":"))]))
}

# Bytes at the peak of a fit above what was resident before.
peak_of <- function(fit) {
  gc()
  cat("5", file = "/proc/self/clear_refs")
  before <- status("VmRSS")
  fit()
  status("VmHWM") - before
}

serve <- function(answer) {
  commands <- file("stdin", "r")
  while (length(line <- readLines(commands, n = 1))) {
    words <- strsplit(line, "\t", fixed = TRUE)[[1]]
    reply <- tryCatch(
      suppressWarnings(suppressMessages(answer(words))),
      error = function(e) sprintf('{"error": "%s"}', gsub('["\\\\\n]', " ", conditionMessage(e)))
    )
    cat(reply, "\n", sep = "")
    flush(stdout())
  }
}
