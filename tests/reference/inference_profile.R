# Reference profile-likelihood intervals: inference_profile.json, by lme4's profile() and by solving for the limits.
#     Rscript tests/reference/inference_profile.R              all cases, three minutes
#     Rscript tests/reference/inference_profile.R ID [ID ...]  only these, the others kept as they are
# README.md describes the format.

helpers_only <- TRUE
source(file.path(dirname(normalizePath(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1]))), "inference_df.R"))
detach("package:lmerTest")
data_entries <- c(data_entries, fromJSON(file.path(here, "glmm_cases.json"), simplifyVector = FALSE)$data[c("cbpp", "epil")])

profile_cases <- list(
  list(id = "sleepstudy_slope", data = "sleepstudy", formula = "Reaction ~ Days + (Days | Subject)"),
  list(id = "sleepstudy_uncorrelated", data = "sleepstudy", formula = "Reaction ~ Days + (Days || Subject)"),
  list(id = "pastes_nested", data = "pastes", formula = "strength ~ 1 + (1 | batch/cask)"),
  list(id = "dyestuff", data = "dyestuff", formula = "Yield ~ 1 + (1 | Batch)"),
  list(id = "dyestuff2_singular", data = "dyestuff2", formula = "Yield ~ 1 + (1 | Batch)"),
  list(id = "penicillin", data = "penicillin", formula = "diameter ~ 1 + (1 | plate) + (1 | sample)"),
  list(id = "oats_linear", data = "oats", formula = "Q(\"yield\") ~ Variety + nitro + (1 | Block/Variety)"),
  list(id = "cbpp", data = "cbpp", formula = "incidence ~ period + (1 | herd)", trials = "size", family = "binomial", link = "logit"),
  list(id = "epil_poisson", data = "epil", formula = "y ~ lbase * trt + lage + V4 + (1 | subject)", family = "poisson", link = "log")
)
probabilities <- c(0.95, 0.90)

# ---------------------------------------------------------------- the limits themselves
# f(x): -2 log-likelihood of natural parameters; the others are minimised out from several starts.
minimise_others <- function(f, x, k, value, lower, upper, starts) {
  x[k] <- value
  if (length(x) == 1) return(list(value = f(x), x = x))
  inner <- function(z) { x[-k] <- z; f(x) }
  best <- NULL
  for (start in starts) {
    z <- start[-k]
    for (round in 1:3) {
      run <- quietly(nlminb(z, inner, lower = lower[-k], upper = upper[-k], control = list(rel.tol = 1e-15, x.tol = 1e-12, iter.max = 500, eval.max = 2000)))
      z <- run$par
    }
    free <- z > lower[-k] + 1e-6 & z < upper[-k] - 1e-6
    if (any(free)) {
      interior <- function(y) { z[free] <- y; inner(z) }
      trial <- tryCatch(newton(interior, z[free], steps = 4), error = function(e) z[free])
      if (interior(trial) < run$objective) { z[free] <- trial; run$objective <- interior(trial) }
    }
    if (is.null(best) || run$objective < best$value) { x[-k] <- z; best <- list(value = run$objective, x = x) }
  }
  best
}

# Profile of one parameter: zeta(value) and the values where |zeta| is a normal quantile (the bound if it stays below).
profile_of <- function(deviance, minimum, estimate, se, lower, upper) {
  zeta <- function(value) sign(value - estimate) * sqrt(max(deviance(value) - minimum, 0))
  limit <- function(side, q) {
    end <- if (side < 0) lower else upper
    if (is.finite(end) && abs(estimate - end) < 1e-12) return(end)
    far <- estimate
    repeat {
      far <- far + side * q * se
      if (side * (far - end) >= 0) { far <- end; if (abs(zeta(end)) <= q) return(end) }
      if (abs(zeta(far)) > q) break
    }
    uniroot(function(v) side * zeta(v) - q, sort(c(estimate, far)), tol = 1e-10 * se)$root
  }
  list(zeta = zeta, limits = lapply(probabilities, function(level) {
    q <- qnorm((1 + level) / 2)
    I(c(limit(-1, q), limit(1, q)))
  }))
}

# Natural parameters of lmer: for each term standard deviations and correlations as theta orders them, then sigma.
theta_of <- function(x, q) {
  sigma <- x[length(x)]
  at <- 0
  unlist(lapply(q, function(size) {
    own <- x[at + seq_len(size * (size + 1) / 2)]
    at <<- at + length(own)
    if (size == 1) own / sigma else c(own[1], own[2] * own[3], own[3] * sqrt(max(1 - own[2]^2, 0))) / sigma
  }))
}

lmer_profiles <- function(case, frame, model) {
  parsed <- quietly(lFormula(as.formula(in_r(case$formula)), frame, REML = FALSE))
  devfun <- do.call(mkLmerDevfun, parsed)
  space <- environment(devfun)
  n <- nobs(model)
  q <- lengths(parsed$reTrms$cnms)
  stopifnot(q <= 2)
  given_sigma <- function(x) {
    sigma <- x[length(x)]
    profiled <- tryCatch(devfun(theta_of(x, q)), error = function(e) Inf) # sigma next to zero
    if (!is.finite(profiled)) return(Inf)
    ratio <- (space$pp$sqrL(1) + space$resp$wrss()) / (n * sigma^2)
    profiled + n * (ratio - 1 - log(ratio))
  }
  is_cor <- unlist(lapply(q, function(size) if (size == 1) FALSE else c(FALSE, TRUE, FALSE)))
  rows <- rows_of(model)
  estimate <- c(unlist(lapply(VarCorr(model), function(V) {
    sd <- attr(V, "stddev")
    if (length(sd) == 1) sd else c(sd[1], attr(V, "correlation")[2, 1], sd[2])
  })), sigma(model))
  estimate <- unname(estimate)
  lower <- c(ifelse(is_cor, -1, 0), 1e-8)
  upper <- c(ifelse(is_cor, 1, Inf), Inf)
  starts <- if (any(is_cor)) lapply(c(-0.7, 0, 0.7), function(r) replace(estimate, which(is_cor), r)) else list(estimate, pmax(estimate, 0.3 * estimate[length(estimate)]))
  minimum <- given_sigma(estimate)
  variance <- lapply(seq_along(estimate), function(k) {
    se <- if (isTRUE(c(is_cor, FALSE)[k])) 0.2 else 0.3 * max(estimate[k], 0.2 * sigma(model))
    profile_of(function(v) minimise_others(given_sigma, estimate, k, v, lower, upper, starts)$value, minimum, estimate[k], se, c(ifelse(is_cor, -1, 0), 0)[k], upper[k])
  })
  # Coefficients: the column goes to the left-hand side; dense.R's deviance, which is profiled over the rest and sigma.
  lambdat <- as(parsed$reTrms$Lambdat, "CsparseMatrix")
  template <- list(i = rep(seq_len(ncol(lambdat)), diff(lambdat@p)), j = lambdat@i + 1L, index = parsed$reTrms$Lind)
  y <- getME(model, "y")
  X <- getME(model, "X")
  theta <- getME(model, "theta")
  se <- sqrt(diag(as.matrix(vcov(model))))
  fixed <- lapply(seq_along(se), function(k) {
    deviance <- function(value) {
      problem <- dense_problem(y - value * X[, k], X[, -k, drop = FALSE], parsed$reTrms$Zt, template, parsed$reTrms$flist, FALSE)
      f <- function(x) dense_deviance(problem, x)
      best <- Inf
      for (start in list(theta, pmax(theta, 0.3))) {
        run <- nlminb(start, f, gradient = function(x) slope(f, x), control = list(rel.tol = 1e-15, iter.max = 200))
        best <- min(best, run$objective, f(newton(f, run$par, steps = 3)))
      }
      best
    }
    profile_of(deviance, deviance(fixef(model)[[k]]), fixef(model)[[k]], se[k], -Inf, Inf)
  })
  c(variance, fixed)
}

# glmer: theta (the standard deviation of the only term) and beta together.
glmer_profiles <- function(devfun, x, se) {
  lower <- c(0, rep(-Inf, length(x) - 1))
  upper <- rep(Inf, length(x))
  f <- function(x) quietly(devfun(x))
  scaled <- function(z) f(z * se)
  minimum <- f(x)
  lapply(seq_along(x), function(k) {
    profile_of(
      function(v) minimise_others(scaled, x / se, k, v / se[k], lower / se, upper, list(x / se))$value, minimum, x[k], se[k], lower[k], Inf
    )
  })
}

# ---------------------------------------------------------------- fits
fit_glmer <- function(case, frame) {
  response <- sub(" ~.*", "", case$formula)
  text <- if (is.null(case$trials)) case$formula else sub("^\\w+ ~", sprintf("cbind(%s, %s - %s) ~", response, case$trials, response), case$formula)
  family <- list(binomial = binomial, poisson = poisson)[[case$family]](case$link)
  control <- glmerControl(tolPwrss = 1e-12, optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9, maxfun = 1e5))
  model <- quietly(do.call(glmer, list(as.formula(text), data = frame, family = family, control = control)))
  parsed <- quietly(glFormula(as.formula(text), frame, family))
  devfun <- quietly(do.call(mkGlmerDevfun, c(parsed, list(control = glmerControl(tolPwrss = 1e-13)))))
  devfun(parsed$reTrms$theta)
  devfun <- updateGlmerDevfun(devfun, parsed$reTrms)
  x <- unname(newton(function(x) quietly(devfun(x)), unname(c(getME(model, "theta"), fixef(model))), steps = 5))
  hessian <- numDeriv::hessian(function(x) quietly(devfun(x)), x)
  list(model = model, devfun = devfun, x = x, se = sqrt(diag(2 * solve(hessian))))
}

kinds_of <- function(names) ifelse(grepl("^sd_", names), "sd", ifelse(grepl("^cor_", names), "cor", ifelse(names == "sigma", "sigma", "fixed")))

run_profile <- function(case) {
  frame <- frame_of(case)
  is_glmer <- !is.null(case$family)
  if (is_glmer) {
    fit <- fit_glmer(case, frame)
    model <- fit$model
    estimates <- fit$x
    standard <- c(NA, fit$se[-1])
    exact <- glmer_profiles(fit$devfun, fit$x, fit$se)
  } else {
    # profile() goes on with the model's optimiser, so it is a real one here, started at the tight optimum.
    fit <- fit_tight(case, frame, FALSE)
    fit$arguments$start <- getME(fit$model, "theta")
    fit$arguments$control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhobeg = 1e-3, rhoend = 1e-9, maxfun = 1e5), calc.derivs = FALSE)
    model <- quietly(do.call(lme4::lmer, fit$arguments))
    exact <- lmer_profiles(case, frame, model)
  }
  seconds <- system.time(done <- recorded(profile(model)))[["elapsed"]]
  said <- done$said
  short <- done$value
  long <- recorded(rownames(confint(profile(model, signames = FALSE))))$value
  table <- as.data.frame(short)
  parameters <- levels(table$.par)
  kind <- kinds_of(long)
  if (!is_glmer) {
    V <- lapply(VarCorr(model), function(V) {
      sd <- attr(V, "stddev")
      if (length(sd) == 1) sd else c(sd[1], attr(V, "correlation")[2, 1], sd[2])
    })
    estimates <- unname(c(unlist(V), sigma(model), fixef(model)))
    standard <- c(rep(NA, length(unlist(V)) + 1), sqrt(diag(as.matrix(vcov(model)))))
  }
  stopifnot(length(exact) == length(parameters), length(long) == length(parameters), length(estimates) == length(parameters))
  intervals <- lapply(probabilities, function(level) {
    done <- recorded(confint(short, level = level))
    said <<- unique(c(said, done$said))
    done$value
  })
  python <- c(rep(NA, length(parameters) - length(fixef(model))), python_names(model))
  result <- lapply(seq_along(parameters), function(k) {
    own <- table[table$.par == parameters[k], ]
    own$value <- own[[parameters[k]]]
    at <- unique(vapply(c(-2.5, -1.5, -0.5, 0.5, 1.5, 2.5), function(z) which.min(abs(own$.zeta - z)), 1L))
    lme4_limits <- lapply(intervals, function(i) unname(i[k, ]))
    scale <- exact[[k]]$limits[[1]][2] - exact[[k]]$limits[[1]][1]
    off <- max(abs(unlist(lme4_limits) - unlist(exact[[k]]$limits)) / scale)
    cat(sprintf("    %-8s %-28s %14.8f  [%14.8f, %14.8f]  lme4's off by %.0e of the width\n", parameters[k], long[k], estimates[k], exact[[k]]$limits[[1]][1], exact[[k]]$limits[[1]][2], off))
    list(
      name = parameters[k], long_name = long[k], python_name = python[k], kind = kind[k], estimate = estimates[k], se = standard[k],
      limits = list(`0.95` = exact[[k]]$limits[[1]], `0.90` = exact[[k]]$limits[[2]]),
      lme4 = list(`0.95` = I(lme4_limits[[1]]), `0.90` = I(lme4_limits[[2]])), lme4_off = off,
      points = lapply(at, function(r) list(value = own$value[r], zeta = exact[[k]]$zeta(own$value[r]), lme4_zeta = own$.zeta[r]))
    )
  })
  list(c(
    case, list(
      nobs = nobs(model), ngroups = as.list(sapply(getME(model, "flist"), nlevels)), llf = as.numeric(logLik(model)), is_singular = isSingular(model),
      varcorr = varcorr_rows(rows_of(model)), parameters = result, seconds = seconds, said = I(said)
    )
  ))
}

run_all("inference_profile.R", c("lme4", "numDeriv", "Matrix", "nloptr", "minqa", "jsonlite"), profile_cases, run_profile)
