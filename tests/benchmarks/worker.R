# lme4 as a worker: the commands and answers are those of worker.py.
# "arrays" means from lFormula's model matrices at hand; "formula" is lmer() and the printing of its summary.
suppressMessages(library(lme4))
model <- NULL
data <- NULL

load_case <- function(folder) {
  model <<- as.formula(readLines(file.path(folder, "formula.txt")))
  files <- list.files(folder, pattern = "\\.(float|int)$", full.names = TRUE)
  columns <- lapply(files, function(file) {
    whole <- grepl("\\.int$", file)
    size <- if (whole) 4L else 8L
    readBin(file, if (whole) "integer" else "double", n = file.size(file) / size, size = size)
  })
  names(columns) <- sub("\\.(float|int)$", "", basename(files))
  data <<- as.data.frame(columns)
}

# What lmer() does after lFormula(), with its defaults.
fit_parsed <- function(parsed) {
  control <- lmerControl()
  objective <- do.call(mkLmerDevfun, c(parsed, list(start = NULL, verbose = 0L, control = control)))
  optimum <- optimizeLmer(objective,
    optimizer = control$optimizer, restart_edge = control$restart_edge, boundary.tol = control$boundary.tol,
    control = control$optCtrl, verbose = 0L, calc.derivs = control$calc.derivs, use.last.params = control$use.last.params
  )
  mkMerMod(environment(objective), optimum, parsed$reTrms, fr = parsed$fr)
}

standard_errors <- function(fit) sqrt(diag(as.matrix(vcov(fit))))
seconds <- function() as.numeric(Sys.time())
number <- function(x) ifelse(is.na(x), "null", sprintf("%.17g", x))
array <- function(x) sprintf("[%s]", paste(number(x), collapse = ", "))

run <- function(what) {
  parsed <- if (what == "arrays") lFormula(model, data)
  gc()
  start <- seconds()
  fit <- if (what == "arrays") fit_parsed(parsed) else lmer(model, data)
  standard_errors(fit)
  fitted <- seconds() - start
  if (what == "arrays") return(array(c(fitted, NA)))
  capture.output(print(summary(fit)))
  array(c(fitted, seconds() - start))
}

status <- function(field) {
  lines <- readLines("/proc/self/status")
  1024 * as.numeric(gsub("[^0-9]", "", lines[startsWith(lines, paste0(field, ":"))]))
}

peak <- function(what) {
  parsed <- if (what == "arrays") lFormula(model, data)
  gc()
  cat("5", file = "/proc/self/clear_refs")
  before <- status("VmRSS")
  standard_errors(if (what == "arrays") fit_parsed(parsed) else lmer(model, data))
  status("VmHWM") - before
}

estimates <- function() {
  fit <- lmer(model, data)
  sprintf(
    '{"beta": %s, "se": %s, "criterion": %s}', array(unname(fixef(fit))), array(unname(standard_errors(fit))),
    number(REMLcrit(fit))
  )
}

answer <- function(words) {
  switch(words[1],
    load = { load_case(words[2]); '{"can": ["arrays", "formula"]}' },
    run = {
      times <- vapply(seq_len(as.integer(words[3])), function(i) run(words[2]), "")
      sprintf('{"seconds": [%s]}', paste(times, collapse = ", "))
    },
    memory = sprintf('{"bytes": %s}', number(peak(words[2]))),
    estimates = estimates(),
    about = sprintf('{"version": "%s, R %s"}', packageVersion("lme4"), getRversion()),
    sprintf('{"error": "no command %s"}', words[1])
  )
}

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
