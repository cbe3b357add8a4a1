# Reference fits for generalised and ordinal mixed models: glmm_cases.json -> glmm.json.
#     Rscript tests/reference/glmm.R              all cases
#     Rscript tests/reference/glmm.R ID [ID ...]  only these, the others kept as they are
# README.md describes the format and what each engine is trusted with.

suppressMessages({ library(lme4); library(glmmTMB); library(ordinal); library(numDeriv); library(Matrix); library(jsonlite) })
here <- dirname(normalizePath(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1])))
root <- file.path(here, "..", "..")
input <- fromJSON(file.path(here, "glmm_cases.json"), simplifyVector = FALSE)
output <- file.path(here, "glmm.json")
wanted <- commandArgs(trailingOnly = TRUE)
quietly <- function(expression) suppressMessages(suppressWarnings(expression))

# ---------------------------------------------------------------- data and formula
natural_levels <- function(x) if (is.numeric(x)) sort(unique(x)) else sort(unique(x), method = "radix")

read_data <- function(entry, case) {
  frame <- read.csv(file.path(root, entry$file), stringsAsFactors = FALSE)
  for (name in names(entry$factors)) {
    levels <- unlist(entry$factors[[name]])
    frame[[name]] <- factor(frame[[name]], if (is.null(levels)) natural_levels(frame[[name]]) else levels)
  }
  columns <- c(entry$columns, case$columns)
  for (name in names(columns)) frame[[name]] <- as.numeric(eval(parse(text = columns[[name]]), frame))
  if (case$family == "ordinal") {
    response <- all.vars(as.formula(r_formula(case)))[1]
    frame[[response]] <- factor(frame[[response]], ordered = TRUE)
  }
  frame
}

r_formula <- function(case) {
  if (!is.null(case$r_formula)) return(case$r_formula)
  text <- gsub("**", "^", case$formula, fixed = TRUE)
  if (!is.null(case$trials)) text <- sub("^(\\w+) ~", sprintf("cbind(\\1, %s - \\1) ~", case$trials), text)
  if (!is.null(case$offset)) text <- sprintf("%s + offset(%s)", text, case$offset)
  text
}

# ---------------------------------------------------------------- numbers
slope <- function(f, x) grad(f, x, method.args = list(r = 4, d = 1e-3, zero.tol = 1, eps = 1e-3))
arrays <- function(x) if (is.atomic(x) && !is.matrix(x)) I(unname(x)) else unname(x)
vech <- function(matrix) matrix[lower.tri(matrix, diag = TRUE)]
vech_names <- function(group, names) {
  pairs <- outer(names, names, function(i, j) ifelse(i == j, i, paste(j, i, sep = ",")))
  paste(group, vech(pairs), sep = "|")
}

# Newton's method on a gradient; the Hessian by Richardson differences of the gradient.
newton <- function(gradient, x, rounds = 8, goal = 1e-9) {
  hessian <- NULL
  for (round in seq_len(rounds)) {
    hessian <- jacobian(gradient, x)
    hessian <- (hessian + t(hessian)) / 2
    step <- solve(hessian, gradient(x))
    # Not through a pole: half steps until the gradient, in the Hessian's metric, falls.
    size <- function(g) sqrt(abs(sum(g * solve(hessian, g))))
    now <- size(gradient(x))
    factor <- 1
    while (factor > 1e-4 && !(size(quietly(gradient(x - factor * step))) < now)) factor <- factor / 2
    if (factor <= 1e-4) break
    x <- x - factor * step
    if (size(gradient(x)) < goal) break
  }
  hessian <- jacobian(gradient, x)
  list(x = x, hessian = (hessian + t(hessian)) / 2, gradient = gradient(x))
}

# Boundary: a standard deviation of nearly zero or a correlation matrix of nearly deficient rank.
singular <- function(G) {
  sd <- sqrt(diag(as.matrix(G)))
  min(sd) < 1e-3 || min(eigen(as.matrix(G) / outer(sd, sd), only.values = TRUE)$values) < 1e-3
}

# Length of the Newton step that is left, in the metric of the information: about standard errors.
decrement <- function(gradient, hessian) tryCatch(sqrt(abs(sum(gradient * solve(hessian, gradient)))), error = function(e) NA)

# The shape that every engine's fit gets. `transform` takes the engine's parameters to (beta, psi, vech of each term's covariance).
assemble <- function(llf, beta, psi, terms, covariance, nobs, ngroups, gradient, hessian, effects, df, extra = list()) {
  p <- length(beta)
  k <- length(psi)
  names_all <- c(names(beta), names(psi), unlist(lapply(terms, function(t) vech_names(t$group, t$names))))
  se <- sqrt(pmax(diag(covariance), 0))
  at <- p + k
  terms <- lapply(terms, function(t) {
    size <- length(t$names) * (length(t$names) + 1) / 2
    own <- at + seq_len(size)
    at <<- at + size
    list(group = t$group, names = I(t$names), cov = unname(as.matrix(t$cov)), se = I(unname(se[own])))
  })
  c(list(
    nobs = nobs, ngroups = as.list(ngroups), llf = llf, df_model = df, aic = -2 * llf + 2 * df,
    fixef = list(names = I(names(beta)), values = I(unname(beta))), se = I(unname(se[seq_len(p)])),
    vcov = unname(covariance[seq_len(p), seq_len(p), drop = FALSE]),
    psi = list(names = I(as.character(names(psi))), values = I(unname(psi)), se = I(unname(se[p + seq_len(k)]))),
    terms = terms, joint = list(names = I(names_all), cov = unname(covariance)),
    is_singular = any(vapply(terms, function(t) singular(t$cov), NA)) || any(psi[names(psi) == "alpha"] < 1e-6),
    gradient = max(abs(gradient)), decrement = decrement(gradient, hessian), ranef = effects
  ), extra)
}

effect_rows <- function(group, level, term, value, sd) {
  lapply(seq_along(value), function(r) list(
    grp = as.character(group)[r], level = as.character(level)[r], term = as.character(term)[r], value = value[r], sd = sd[r]
  ))
}

# ---------------------------------------------------------------- glmmTMB: the Laplace approximation
families <- list(
  binomial = function(link) binomial(link), poisson = function(link) poisson(link), gamma = function(link) Gamma(link),
  nb2 = function(link) nbinom2(link), nb1 = function(link) nbinom1(link), gaussian = function(link) gaussian(link)
)

# glmmTMB's theta of one unstructured term: log standard deviations, then the rows below the diagonal of a unit
# lower triangle whose product, scaled to a correlation matrix, is the correlation (its vignette on covariance structures).
tmb_covariance <- function(theta, q, diagonal = FALSE) {
  sd <- exp(theta[seq_len(q)])
  if (diagonal) return(diag(sd^2, q))
  low <- diag(q)
  low[upper.tri(low)] <- theta[-seq_len(q)]
  correlation <- cov2cor(t(low) %*% low)
  correlation * outer(sd, sd)
}

fit_glmmtmb <- function(case, frame, nAGQ) {
  stopifnot(nAGQ == 1)
  arguments <- list(formula = as.formula(r_formula(case)), data = frame, family = families[[case$family]](case$link))
  if (!is.null(case$weights)) arguments$weights <- frame[[case$weights]]
  default <- quietly(do.call(glmmTMB, arguments))
  arguments$control <- glmmTMBControl(optCtrl = list(iter.max = 1e4, eval.max = 1e4, rel.tol = 1e-14, x.tol = 1e-12))
  arguments$start <- list(beta = fixef(default)$cond, theta = getME(default, "theta"))
  fit <- quietly(do.call(glmmTMB, arguments))
  obj <- fit$obj
  obj$env$inner.control$tol <- 1e-13
  obj$env$silent <- TRUE
  gradient <- function(x) { quietly(obj$fn(x)); as.vector(quietly(obj$gr(x))) }
  optimum <- newton(gradient, fit$fit$par)
  x <- optimum$x
  llf <- -as.numeric(obj$fn(x))
  last <- obj$env$last.par
  inner <- obj$env$spHess(last, random = TRUE)
  inner_sd <- sqrt(diag(as.matrix(solve(inner))))
  b <- last[obj$env$random]

  kind <- names(x)
  beta <- setNames(x[kind == "beta"], names(fixef(fit)$cond))
  info <- fit$modelInfo$reTrms$cond
  q <- lengths(info$cnms)
  groups <- names(info$cnms)
  is_diagonal <- sapply(fit$modelInfo$reStruc$condReStruc, function(s) names(s$blockCode) == "diag")
  covariances <- function(x) {
    theta <- x[kind == "theta"]
    at <- 0
    lapply(seq_along(q), function(j) {
      size <- if (is_diagonal[j]) q[j] else q[j] * (q[j] + 1) / 2
      own <- theta[at + seq_len(size)]
      at <<- at + size
      tmb_covariance(own, q[j], is_diagonal[j])
    })
  }
  stopifnot(max(abs(unlist(covariances(fit$fit$par)) - unlist(lapply(VarCorr(fit)$cond, as.vector)))) < 1e-8 * max(unlist(covariances(x)), 1))

  # glmmTMB's betad is the log of its own dispersion parameter: size of nb2, alpha of nb1, shape or variance of the others.
  has_psi <- any(kind == "betad")
  psi_of <- function(x) {
    if (!has_psi) return(numeric())
    d <- exp(x[kind == "betad"])
    natural <- switch(case$family, nb2 = 1 / d, nb1 = d, d^dispersion_power)
    setNames(natural, if (case$family %in% c("nb1", "nb2")) "alpha" else "dispersion")
  }
  dispersion_power <- if (has_psi) unname(round(log(sigma(fit)^2) / fit$fit$par[names(fit$fit$par) == "betad"]))
  if (case$family %in% c("gamma", "gaussian")) stopifnot(abs(psi_of(fit$fit$par) / sigma(fit)^2 - 1) < 1e-6)
  transform <- function(x) unname(c(x[kind == "beta"], psi_of(x), unlist(lapply(covariances(x), vech))))
  J <- jacobian(transform, x)
  covariance <- J %*% solve(optimum$hessian, t(J))

  # conditional modes in glmmTMB's order: terms, levels, columns
  flist <- info$flist
  assigned <- attr(flist, "assign")
  offset <- 0
  effects <- list()
  terms <- list()
  G <- covariances(x)
  for (j in seq_along(q)) {
    labels <- levels(flist[[assigned[j]]])
    first <- head(seq_along(labels), 5)
    at <- offset + rep((first - 1) * q[j], each = q[j]) + rep(seq_len(q[j]), length(first))
    effects <- c(effects, effect_rows(rep(groups[j], length(at)), rep(labels[first], each = q[j]), rep(info$cnms[[j]], length(first)), unname(b[at]), unname(inner_sd[at])))
    offset <- offset + length(labels) * q[j]
    terms[[j]] <- list(group = groups[j], names = info$cnms[[j]], cov = G[[j]])
  }
  joint <- quietly(vcov(default, full = TRUE))
  assemble(
    llf, beta, psi_of(x), terms, covariance, nobs(fit), sapply(flist, nlevels), optimum$gradient, optimum$hessian, effects, length(x),
    list(
      engine_params = list(names = I(kind), values = I(unname(x)), hessian = unname(optimum$hessian)),
      default = list(
        llf = as.numeric(logLik(default)), fixef = I(unname(fixef(default)$cond)), se = I(unname(sqrt(diag(joint))[seq_along(beta)])),
        gradient = max(abs(default$obj$gr(default$fit$par)))
      )
    )
  )
}

# ---------------------------------------------------------------- glmer: adaptive quadrature of 0/1 responses
# With trials each row is taken apart into 0/1 rows and the binomial coefficients are added to the log-likelihood.
fit_glmer <- function(case, frame, nAGQ) {
  stopifnot(case$family == "binomial", case$link == "logit", is.null(case$weights))
  constant <- 0
  text <- r_formula(case)
  nobs <- nrow(frame)
  if (!is.null(case$trials)) {
    y <- frame[[sub(" ~.*", "", case$formula)]]
    n <- frame[[case$trials]]
    constant <- sum(lchoose(n, y))
    frame <- frame[rep(seq_along(n), n), ]
    frame$success <- unlist(Map(function(y, n) rep(1:0, c(y, n - y)), y, n))
    text <- sub("^.*? ~", "success ~", text)
  }
  formula <- as.formula(text)
  start <- quietly(glmer(formula, frame, binomial(case$link), nAGQ = nAGQ, control = glmerControl(tolPwrss = 1e-13)))
  parsed <- quietly(glFormula(formula, frame, binomial(case$link)))
  devfun <- quietly(do.call(mkGlmerDevfun, c(parsed, list(control = glmerControl(tolPwrss = 1e-13)))))
  devfun(parsed$reTrms$theta)
  devfun <- updateGlmerDevfun(devfun, parsed$reTrms, nAGQ = nAGQ)
  value <- function(x) quietly(devfun(x)) / 2
  gradient <- function(x) grad(value, x)
  x <- unname(c(getME(start, "theta"), fixef(start)))
  for (round in 1:6) {
    hessian <- hessian(value, x)
    step <- solve(hessian, gradient(x))
    x <- x - step
    if (max(abs(step)) < 1e-8) break
  }
  g <- gradient(x)
  hessian <- hessian(value, x)
  llf <- -value(x) + constant
  q <- lengths(parsed$reTrms$cnms)
  stopifnot(length(q) == 1)
  low <- matrix(0, q, q)
  size <- q * (q + 1) / 2
  covariance_of <- function(x) { low[lower.tri(low, diag = TRUE)] <- x[seq_len(size)]; low %*% t(low) }
  transform <- function(x) c(x[-seq_len(size)], vech(covariance_of(x)))
  J <- jacobian(transform, x)
  beta <- setNames(x[-seq_len(size)], names(fixef(start)))
  model <- mkMerMod(environment(devfun), list(par = x, fval = 2 * value(x), conv = 0), parsed$reTrms, parsed$fr)
  effects <- as.data.frame(ranef(model, condVar = TRUE), stringsAsFactors = FALSE)
  first <- effects[as.character(effects$grp) %in% head(levels(parsed$reTrms$flist[[1]]), 5), ]
  assemble(
    llf, beta, numeric(), list(list(group = names(q), names = parsed$reTrms$cnms[[1]], cov = covariance_of(x))),
    J %*% solve(hessian, t(J)), nobs, sapply(parsed$reTrms$flist, nlevels), g, hessian,
    effect_rows(first$grpvar, first$grp, first$term, first$condval, first$condsd), length(x),
    list(default = list(llf = as.numeric(logLik(start)) + constant, fixef = I(unname(fixef(start)))))
  )
}

# ---------------------------------------------------------------- clmm: ordinal responses
fit_clmm <- function(case, frame, nAGQ) {
  link <- if (is.null(case$r_link)) case$link else case$r_link
  fit <- quietly(clmm(as.formula(r_formula(case)), data = frame, link = link, nAGQ = nAGQ, Hess = TRUE))
  alpha <- fit$alpha
  beta <- fit$beta
  V <- vcov(fit)
  p <- length(beta)
  k <- length(alpha)
  G <- VarCorr(fit)
  se <- sqrt(diag(V))
  at <- c(k + seq_len(p), seq_len(k))
  modes <- ranef(fit)
  effects <- list()
  for (g in names(modes)) {
    m <- as.matrix(modes[[g]])
    first <- head(seq_len(nrow(m)), 5)
    for (r in first) effects <- c(effects, effect_rows(rep(g, ncol(m)), rep(rownames(m)[r], ncol(m)), colnames(m), unname(m[r, ]), rep(NA, ncol(m))))
  }
  terms <- lapply(names(G), function(g) list(group = g, names = colnames(G[[g]]), cov = matrix(as.numeric(G[[g]]), nrow(G[[g]]))))
  llf <- as.numeric(fit$logLik)
  c(list(
    nobs = nobs(fit), ngroups = as.list(sapply(modes, nrow)), llf = llf, df_model = fit$edf, aic = -2 * llf + 2 * fit$edf,
    fixef = list(names = I(names(beta)), values = I(unname(beta))), se = I(unname(se[k + seq_len(p)])),
    vcov = unname(V[k + seq_len(p), k + seq_len(p), drop = FALSE]),
    psi = list(names = I(names(alpha)), values = I(unname(alpha)), se = I(unname(se[seq_len(k)]))),
    terms = lapply(terms, function(t) list(group = t$group, names = I(t$names), cov = t$cov, se = NULL)),
    joint = list(names = I(c(names(beta), names(alpha))), cov = unname(V[at, at])), is_singular = any(vapply(terms, function(t) singular(t$cov), NA)),
    gradient = max(abs(fit$gradient)), decrement = decrement(fit$gradient, fit$Hessian), ranef = effects
  ),
  if (nAGQ == 1 && length(modes) == 1 && ncol(terms[[1]]$cov) == 1) {
    list(note = "clmm's Laplace approximation with one intercept is inexact by 1e-6 to 3e-4; brute.json has the exact optimum of it")
  })
}

# ---------------------------------------------------------------- all cases
engines <- list(glmmTMB = fit_glmmtmb, glmer = fit_glmer, clmm = fit_clmm)

run_case <- function(case) {
  frame <- read_data(input$data[[case$data]], case)
  lapply(case$engines, function(engine) {
    started <- proc.time()[3]
    result <- tryCatch(engines[[engine[[1]]]](case, frame, engine[[2]]), error = function(e) list(failed = conditionMessage(e)))
    notes <- c(case$note, result$note,
      if (!is.null(result$decrement) && !isTRUE(result$decrement < 1e-5)) sprintf("%.0e standard errors from the optimum", result$decrement),
      if (isTRUE(result$is_singular)) "at the boundary: the engine's standard errors mean nothing")
    cat(sprintf("%-28s %-8s %2d  %6.1f s  %s  gradient %.1e %s\n", case$id, engine[[1]], engine[[2]], proc.time()[3] - started,
      if (is.null(result$llf)) paste("FAILED", result$failed) else sprintf("%.6f", result$llf), if (is.null(result$gradient)) NaN else result$gradient, paste(notes, collapse = "; ")))
    result$note <- NULL
    c(case[setdiff(names(case), c("engines", "note"))], list(engine = engine[[1]], nAGQ = engine[[2]]), result, if (length(notes)) list(note = paste(notes, collapse = "; ")))
  })
}

versions <- c(
  list(R = paste(R.version$major, R.version$minor, sep = ".")),
  lapply(setNames(nm = c("glmmTMB", "TMB", "lme4", "ordinal", "Matrix", "numDeriv", "jsonlite")), function(p) as.character(packageVersion(p)))
)

line <- function(x) toJSON(x, auto_unbox = TRUE, digits = I(17), na = "null", null = "null")

ids <- vapply(input$cases, function(case) case$id, "")
stopifnot(!anyDuplicated(ids), all(wanted %in% ids))
store <- if (file.exists(output) && length(wanted)) {
  old <- readLines(output)
  old <- sub(",$", "", old[startsWith(old, '{"id":')])
  split(old, vapply(old, function(l) fromJSON(l)$id, ""))
} else list()
for (case in input$cases) {
  if (length(wanted) && !(case$id %in% wanted)) next
  store[[case$id]] <- vapply(run_case(case), line, "")
  lines <- unlist(store[intersect(ids, names(store))], use.names = FALSE)
  writeLines(c(
    "{", paste0('"versions": ', line(versions), ","), paste0('"data": ', line(input$data), ","), '"fits": [',
    paste0(lines, c(rep(",", length(lines) - 1), "")), "]", "}"
  ), paste0(output, ".part"))
  invisible(file.rename(paste0(output, ".part"), output))
}
