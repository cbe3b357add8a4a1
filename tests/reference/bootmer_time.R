# Time of one refit in lme4's parametric bootstrap, for the benchmarks: prints one JSON line.
#     Rscript tests/reference/bootmer_time.R [nsim]
suppressMessages({ library(lme4); library(jsonlite) })
here <- dirname(normalizePath(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1])))
nsim <- as.integer(c(commandArgs(trailingOnly = TRUE), "1000")[1])
sleepstudy <- read.csv(file.path(here, "..", "..", "sm_multilevel", "datasets", "sleepstudy.csv"))
model <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy)
everything <- function(m) c(fixef(m), sigma = sigma(m), getME(m, "theta"))
quietly <- function(expression) suppressMessages(suppressWarnings(expression))
invisible(quietly(bootMer(model, everything, nsim = 20, seed = 1)))
time <- system.time(boot <- quietly(bootMer(model, everything, nsim = nsim, seed = 1)))
cat(toJSON(list(
  model = "Reaction ~ Days + (Days | Subject)", nsim = nsim, seconds = time[["elapsed"]], seconds_per_refit = time[["elapsed"]] / nsim,
  cpu_seconds_per_refit = (time[["user.self"]] + time[["sys.self"]]) / nsim, se = as.list(apply(boot$t, 2, sd)), lme4 = as.character(packageVersion("lme4")), R = R.version.string
), auto_unbox = TRUE, digits = I(6)), "\n", sep = "")
