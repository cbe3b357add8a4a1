# lme4 as a worker: the commands and answers are those of worker.py.
# "arrays" means from lFormula's model matrices at hand; "formula" is lmer() and the printing of its summary.
suppressMessages(library(lme4))
source(file.path(dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1])), "protocol.R"))
model <- NULL
data <- NULL

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

peak <- function(what) {
  parsed <- if (what == "arrays") lFormula(model, data)
  peak_of(function() standard_errors(if (what == "arrays") fit_parsed(parsed) else lmer(model, data)))
}

estimates <- function() {
  fit <- lmer(model, data)
  sprintf(
    '{"beta": %s, "se": %s, "criterion": %s}', array(unname(fixef(fit))), array(unname(standard_errors(fit))),
    number(REMLcrit(fit))
  )
}

serve(function(words) {
  switch(words[1],
    load = {
      model <<- as.formula(readLines(file.path(words[2], "formula.txt")))
      data <<- read_columns(words[2])
      '{"can": ["arrays", "formula"]}'
    },
    run = {
      times <- vapply(seq_len(as.integer(words[3])), function(i) run(words[2]), "")
      sprintf('{"seconds": [%s]}', paste(times, collapse = ", "))
    },
    memory = sprintf('{"bytes": %s}', number(peak(words[2]))),
    estimates = estimates(),
    about = sprintf('{"version": "%s, R %s"}', packageVersion("lme4"), getRversion()),
    sprintf('{"error": "no command %s"}', words[1])
  )
})
