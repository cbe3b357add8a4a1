# lme4's glmer, glmmTMB or ordinal's clmm as a worker: `worker_glmm.R TOOL`, commands and answers as worker.py's.
# They have no interface for arrays: "formula" only, up to the standard errors and to the printed summary.
tool <- commandArgs(trailingOnly = TRUE)[1]
package <- c(glmer = "lme4", glmmTMB = "glmmTMB", clmm = "ordinal")[[tool]]
suppressMessages(library(package, character.only = TRUE))
source(file.path(dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1])), "protocol.R"))
model <- family <- link <- points <- one_term <- data <- last <- NULL

load_case <- function(folder) {
  lines <- readLines(file.path(folder, "model.txt"))
  model <<- as.formula(lines[1], env = globalenv())
  family <<- lines[2]
  link <<- lines[3]
  points <<- as.integer(lines[4])
  one_term <<- lines[5] == "1"
  data <<- read_columns(folder)
  last <<- NULL
  if (family == "ordinal") data[[all.vars(model)[1]]] <<- factor(data[[all.vars(model)[1]]], ordered = TRUE)
  grouping <- all.vars(as.formula(paste("~", paste(gsub("^.*\\| *", "", bars(lines[1])), collapse = "+"))))
  for (group in grouping) data[[group]] <<- factor(data[[group]])
}

bars <- function(text) regmatches(text, gregexpr("(?<=\\()[^()]*\\|[^()]*(?=\\))", text, perl = TRUE))[[1]]

can <- function() {
  quadrature <- points == 1 || (one_term && !grepl("\\+|[a-z]", gsub("\\|.*$", "", bars(deparse1(model))[1])))
  switch(tool,
    glmer = family != "ordinal" && quadrature && !(family == "nb2" && points > 1),
    glmmTMB = family != "ordinal" && points == 1,
    clmm = family == "ordinal" && quadrature
  )
}

fit_once <- function() {
  if (tool == "clmm") return(clmm(model, data = data, link = link, nAGQ = points))
  if (tool == "glmmTMB") {
    families <- list(binomial = binomial, poisson = poisson, gamma = Gamma, nb2 = nbinom2)
    return(glmmTMB(model, data = data, family = families[[family]](link)))
  }
  if (family == "nb2") return(glmer.nb(model, data = data))
  families <- list(binomial = binomial, poisson = poisson, gamma = Gamma)
  glmer(model, data = data, family = families[[family]](link), nAGQ = points)
}

covariance <- function(fit) {
  v <- vcov(fit)
  as.matrix(if (tool == "glmmTMB") v$cond else v)
}

run <- function() {
  gc()
  start <- seconds()
  fit <- fit_once()
  covariance(fit)
  fitted <- seconds() - start
  capture.output(print(summary(fit)))
  last <<- fit
  array(c(fitted, seconds() - start))
}

estimates <- function() {
  fit <- if (is.null(last)) fit_once() else last
  beta <- switch(tool, glmer = fixef(fit), glmmTMB = fixef(fit)$cond, clmm = fit$beta)
  v <- covariance(fit)
  if (tool == "clmm") v <- v[names(beta), names(beta), drop = FALSE]
  component <- VarCorr(fit)
  if (tool == "glmmTMB") component <- component$cond
  # lme4 orders terms by their levels; the first of the formula is compared.
  group <- sub("^.*\\| *", "", bars(deparse1(model))[1])
  sprintf(
    '{"names": %s, "beta": %s, "se": %s, "llf": %s, "sd": %s}', strings(names(beta)), array(unname(beta)),
    array(sqrt(diag(v))), number(as.numeric(logLik(fit))), number(sqrt(component[[group]][1, 1]))
  )
}

serve(function(words) {
  switch(words[1],
    load = { load_case(words[2]); if (can()) '{"can": ["formula"]}' else '{"can": []}' },
    run = {
      times <- vapply(seq_len(as.integer(words[3])), function(i) run(), "")
      sprintf('{"seconds": [%s]}', paste(times, collapse = ", "))
    },
    memory = sprintf('{"bytes": %s}', number(peak_of(function() covariance(fit_once())))),
    estimates = estimates(),
    about = sprintf('{"version": "%s %s, R %s"}', package, packageVersion(package), getRversion()),
    sprintf('{"error": "no command %s"}', words[1])
  )
})
