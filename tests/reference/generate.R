# Reference fits for the linear mixed model: lmm_cases.json -> lmm.json.
#     Rscript tests/reference/generate.R              all cases
#     Rscript tests/reference/generate.R ID [ID ...]  only these, the others kept as they are
# README.md describes the format and how the reference optimum is decided.

suppressMessages({ library(lme4); library(nlme); library(Matrix); library(jsonlite) })
here <- dirname(normalizePath(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1])))
root <- file.path(here, "..", "..")
source(file.path(here, "dense.R"))
input <- fromJSON(file.path(here, "lmm_cases.json"), simplifyVector = FALSE)
wanted <- commandArgs(trailingOnly = TRUE)

# ---------------------------------------------------------------- data
natural_levels <- function(x) if (is.numeric(x)) sort(unique(x)) else sort(unique(x), method = "radix")

read_data <- function(entry) {
  frame <- read.csv(file.path(root, entry$file), stringsAsFactors = FALSE)
  for (name in names(frame)) if (is.character(frame[[name]])) {
    frame[[name]] <- factor(frame[[name]], natural_levels(frame[[name]]))
  }
  for (name in names(entry$factors)) {
    levels <- unlist(entry$factors[[name]])
    values <- if (is.factor(frame[[name]])) as.character(frame[[name]]) else frame[[name]]
    frame[[name]] <- factor(values, if (is.null(levels)) natural_levels(values) else levels)
  }
  frame
}

# ---------------------------------------------------------------- fits
# JSON arrays even when there is one element.
arrays <- function(x) {
  vectors <- intersect(names(x), c("names", "values", "theta", "fixef", "se", "vcov", "fitted"))
  x[vectors] <- lapply(x[vectors], function(v) if (is.atomic(v) && !is.matrix(v)) I(unname(v)) else v)
  x
}

setup <- function(case, frame, reml) {
  for (name in names(case$r_columns)) frame[[name]] <- eval(parse(text = case$r_columns[[name]]), frame)
  text <- if (is.null(case$r_formula)) case$formula else case$r_formula
  arguments <- list(formula = as.formula(text), data = frame, REML = reml)
  if (!is.null(case$weights)) arguments$weights <- as.name(case$weights)
  arguments
}

quietly <- function(expression) suppressMessages(suppressWarnings(expression))

# From the default optimum: restart with one optimiser after another until the deviance stops falling
# (rounds = 0: one optimiser once, for data that take a second an evaluation; Newton's method follows).
tighten <- function(devfun, theta, lower, rounds = 3) {
  value <- devfun(theta)
  algorithms <- list(
    function(x) minqa::bobyqa(x, devfun, lower, control = list(rhobeg = 0.02 * max(abs(x), 0.1), rhoend = 1e-9, maxfun = 2000))$par,
    function(x) nloptr::nloptr(x, devfun, lb = lower, opts = list(
      algorithm = "NLOPT_LN_SBPLX", ftol_abs = 1e-12, xtol_abs = 1e-12, xtol_rel = 0, maxeval = 500))$solution,
    function(x) nloptr::nloptr(x, devfun, lb = lower, opts = list(
      algorithm = "NLOPT_LN_BOBYQA", ftol_abs = 1e-12, xtol_abs = 1e-12, xtol_rel = 0, maxeval = 1000))$solution
  )
  for (round in seq_len(rounds)) {
    before <- value
    for (algorithm in algorithms) {
      trial <- quietly(algorithm(theta))
      if (devfun(trial) < value) { theta <- trial; value <- devfun(trial) }
    }
    if (before - value < 1e-12 * abs(value)) break
  }
  if (rounds == 0) quietly(algorithms[[1]](theta)) else theta
}

# lme4's conventions: diagonals of Lambda not negative, exact zeros where zero is as good.
flip <- function(theta, reterms) {
  at <- split(seq_along(theta), rep(seq_along(reterms$cnms), sapply(reterms$cnms, function(x) length(x) * (length(x) + 1) / 2)))
  for (k in at) {
    q <- (sqrt(8 * length(k) + 1) - 1) / 2
    column <- rep(seq_len(q), rev(seq_len(q)))
    for (j in seq_len(q)) if (theta[k[column == j][1]] < 0) theta[k[column == j]] <- -theta[k[column == j]]
  }
  theta
}
snap <- function(devfun, theta, lower) {
  for (k in which(lower == 0 & abs(theta) < 1e-3 * max(abs(theta), 1))) {
    trial <- replace(theta, k, 0)
    if (devfun(trial) <= devfun(theta) + 1e-12 * abs(devfun(theta))) theta <- trial
  }
  theta
}

fit_lmer <- function(case, frame, reml) {
  arguments <- setup(case, frame, reml)
  default <- quietly(do.call(lmer, arguments))
  parsed <- quietly(do.call(lFormula, arguments))
  devfun <- do.call(mkLmerDevfun, parsed)
  lower <- environment(devfun)$lower
  at <- function(theta) mkMerMod(environment(devfun), list(par = theta, fval = devfun(theta), conv = 0), parsed$reTrms, parsed$fr)

  tight_theta <- tighten(devfun, getME(default, "theta"), lower, if (isFALSE(case$dense)) 0 else 3)
  tight <- at(tight_theta)
  runs <- list(default = brief(default), tight = brief(tight))
  candidates <- list(tight = tight_theta)

  if (!isFALSE(case$dense)) {
    template <- as(t(parsed$reTrms$Lambdat), "TsparseMatrix")
    # Lind runs along the nonzeros of Lambdat by columns: the rows of Lambda
    lambdat <- as(parsed$reTrms$Lambdat, "CsparseMatrix")
    problem <- dense_problem(
      getME(default, "y") - getME(default, "offset"), getME(default, "X"), parsed$reTrms$Zt,
      list(i = rep(seq_len(ncol(lambdat)), diff(lambdat@p)), j = lambdat@i + 1L, index = parsed$reTrms$Lind),
      parsed$reTrms$flist, reml, case_weights(case, frame, default)
    )
    starts <- list(parsed$reTrms$theta, tight_theta)
    if (any(lower < 0)) for (off in c(-0.5, 0.5)) starts <- c(starts, list(ifelse(lower < 0, off, 1)))
    optimum <- dense_optimum(problem, starts)
    candidates$dense <- flip(optimum$theta, parsed$reTrms)
    model <- at(candidates$dense)
    runs$dense <- brief(model)
    own <- dense_fixed(problem, candidates$dense)
    runs$dense[c("llf", "fixef", "se", "gradient")] <- list(-optimum$deviance / 2, own$fixef, own$se, optimum$gradient)
    runs$dense$vcov <- runs$dense$vcov * (own$sigma / sigma(model))^2
  } else {
    candidates$newton <- flip(newton(devfun, tight_theta, steps = 3), parsed$reTrms)
  }
  # The lowest of lme4's own deviances; of equal ones the last, which Newton's method made.
  candidates <- lapply(candidates, snap, devfun = devfun, lower = lower)
  values <- sapply(candidates, devfun)
  chosen <- max(which(values <= min(values) + 1e-11 * abs(min(values))))
  reference <- at(candidates[[chosen]])
  free <- candidates[[chosen]] > 0 | lower < 0
  interior <- function(x) devfun(replace(candidates[[chosen]], free, x))
  gradient <- if (any(free)) max(abs(slope(interior, candidates[[chosen]][free]))) else 0
  devfun(candidates[[chosen]]) # leaves lme4's environment at the reference
  c(describe(reference), list(
    optimum = names(candidates)[chosen], gradient = gradient, runs = lapply(runs, function(run) arrays(run[names(run) != "scale"])),
    agreement = lapply(runs, compare, reference = brief(reference))
  ))
}

case_weights <- function(case, frame, model) {
  if (is.null(case$weights)) NULL else frame[[case$weights]][as.integer(rownames(model@frame))]
}

criterion <- function(model) as.numeric(logLik(model))
rows_of <- function(model) as.data.frame(VarCorr(model))
brief <- function(model) {
  v <- rows_of(model)
  scale <- mapply(function(grp, var1, var2) {
    own <- function(name) v$vcov[v$grp == grp & is.na(v$var2) & (v$var1 %in% name)]
    max(if (is.na(var2)) own(var1) else sqrt(own(var1) * own(var2)), 1e-2 * tail(v$vcov, 1))
  }, v$grp, v$var1, v$var2)
  list(scale = unname(scale), llf = criterion(model), theta = unname(getME(model, "theta")), fixef = unname(fixef(model)), se = unname(sqrt(diag(as.matrix(vcov(model))))), vcov = v$vcov)
}

# How far a run is from the reference, in the units of our tolerances: llf relative, coefficients in standard
# errors, standard errors relative, variances relative to themselves (covariances to the product of the standard
# deviations) or, where that is smaller, to a hundredth of the residual variance.
compare <- function(run, reference) {
  list(
    llf = abs(run$llf / reference$llf - 1), fixef = max(abs(run$fixef - reference$fixef) / reference$se),
    se = max(abs(run$se / reference$se - 1)), variances = max(abs(run$vcov - reference$vcov) / reference$scale)
  )
}

varcorr_rows <- function(frame) {
  lapply(seq_len(nrow(frame)), function(k) {
    list(grp = frame$grp[k], var1 = frame$var1[k], var2 = frame$var2[k], vcov = frame$vcov[k], sdcor = frame$sdcor[k])
  })
}

describe <- function(model) {
  effects <- as.data.frame(ranef(model, condVar = TRUE), stringsAsFactors = FALSE)
  flist <- getME(model, "flist")
  first <- do.call(rbind, lapply(names(flist), function(g) {
    effects[effects$grpvar == g & as.character(effects$grp) %in% head(levels(flist[[g]]), 3), ]
  }))
  levels_used <- sapply(flist, nlevels)
  k <- length(fixef(model)) + length(getME(model, "theta")) + 1
  arrays(list(
    nobs = nobs(model), ngroups = as.list(levels_used), llf = criterion(model), minus2llf = -2 * criterion(model),
    aic = -2 * criterion(model) + 2 * k, bic = -2 * criterion(model) + log(nobs(model)) * k,
    fixef = arrays(list(names = names(fixef(model)), values = fixef(model))),
    se = unname(sqrt(diag(as.matrix(vcov(model))))), vcov = unname(as.matrix(vcov(model))),
    sigma = sigma(model), theta = arrays(list(names = names(getME(model, "theta")), values = getME(model, "theta"))),
    varcorr = varcorr_rows(rows_of(model)), is_singular = isSingular(model),
    ranef = lapply(seq_len(nrow(first)), function(r) list(
      grp = as.character(first$grpvar[r]), level = as.character(first$grp[r]), term = as.character(first$term[r]),
      value = first$condval[r], sd = first$condsd[r]
    )),
    fitted = head(fitted(model), 5)
  ))
}

# ---------------------------------------------------------------- covariance structures: nlme, decided by the dense optimum
structures <- list(
  exchangeable = function(q) list(index = ifelse(diag(q) == 1, 1, 2), size = 2, names = c("ones", "contrasts"),
    expand = function(t) c(t[1] / q + t[2] * (1 - 1 / q), (t[1] - t[2]) / q)),
  identity = function(q) list(index = diag(q), size = 1, names = "sd", expand = base::identity),
  diagonal = function(q) list(index = diag(seq_len(q), q, q), size = q, names = paste0("sd", seq_len(q)), expand = base::identity)
)

structured_problem <- function(case, frame, reml) {
  arguments <- setup(case, frame, reml)
  parsed <- quietly(do.call(lFormula, arguments))
  terms <- parsed$reTrms
  parts <- lapply(terms$cnms, function(columns) structures[[case$covariance]](length(columns)))
  sizes <- sapply(parts, function(part) part$size)
  start <- cumsum(c(0, sizes))
  q <- lengths(terms$cnms)
  template <- list(i = integer(), j = integer(), index = integer())
  for (k in seq_along(parts)) {
    position <- which(parts[[k]]$index != 0, arr.ind = TRUE)
    for (level in seq_len(nlevels(terms$flist[[names(terms$cnms)[k]]]))) {
      base <- terms$Gp[k] + (level - 1) * q[k]
      template$i <- c(template$i, base + position[, 1])
      template$j <- c(template$j, base + position[, 2])
      template$index <- c(template$index, start[k] + parts[[k]]$index[position])
    }
  }
  expand <- function(theta) unlist(lapply(seq_along(parts), function(k) parts[[k]]$expand(theta[start[k] + seq_len(sizes[k])])))
  list(
    problem = dense_problem(model.response(parsed$fr), parsed$X, terms$Zt, template, terms$flist, reml, expand = expand),
    size = sum(sizes), terms = terms, X = parsed$X,
    names = unlist(lapply(seq_along(parts), function(k) paste(names(terms$cnms)[k], parts[[k]]$names, sep = ".")))
  )
}

fit_structured <- function(case, frame, reml) {
  s <- structured_problem(case, frame, reml)
  optimum <- dense_optimum(s$problem, list(rep(1, s$size), rep(c(2, 0.3), length.out = s$size)))
  theta <- abs(optimum$theta)
  fit <- dense_solution(s$problem, theta)
  nlme_run <- function(control) {
    m <- quietly(lme(as.formula(case$nlme$fixed), frame, eval(parse(text = case$nlme$random)), method = if (reml) "REML" else "ML", control = control))
    list(llf = as.numeric(logLik(m)), fixef = unname(fixef(m)), sigma = m$sigma)
  }
  runs <- list(
    default = nlme_run(lmeControl()),
    tight = nlme_run(lmeControl(
      tolerance = 1e-12, msTol = 1e-14, maxIter = 1000, msMaxIter = 1000, niterEM = 100, returnObject = TRUE
    )),
    dense = list(llf = -fit$deviance / 2, gradient = optimum$gradient)
  )

  rows <- list()
  effects <- list()
  for (k in seq_along(s$terms$cnms)) {
    columns <- s$terms$cnms[[k]]
    group <- names(s$terms$cnms)[k]
    own <- s$terms$Gp[k] + seq_along(columns)
    G <- fit$cov[own, own, drop = FALSE]
    sd <- sqrt(diag(G))
    for (c in seq_along(columns)) rows[[length(rows) + 1]] <- list(grp = group, var1 = columns[c], var2 = NA, vcov = G[c, c], sdcor = sd[c])
    if (case$covariance == "exchangeable") for (c in seq_along(columns)) for (d in seq_along(columns)) if (d > c) {
      rows[[length(rows) + 1]] <- list(grp = group, var1 = columns[c], var2 = columns[d], vcov = G[c, d], sdcor = G[c, d] / (sd[c] * sd[d]))
    }
    names_here <- head(levels(s$terms$flist[[group]]), 3)
    for (c in seq_along(columns)) for (l in seq_along(names_here)) {
      at <- s$terms$Gp[k] + (l - 1) * length(columns) + c
      effects[[length(effects) + 1]] <- list(grp = group, level = names_here[l], term = columns[c], value = fit$b[at], sd = fit$sd[at])
    }
  }
  rows[[length(rows) + 1]] <- list(grp = "Residual", var1 = NA, var2 = NA, vcov = fit$sigma^2, sdcor = fit$sigma)
  llf <- -fit$deviance / 2
  se <- sqrt(diag(fit$vcov))
  k <- ncol(s$X) + s$size + 1
  n <- s$problem$n
  arrays(list(
    nobs = n, ngroups = as.list(sapply(s$terms$flist, nlevels)), llf = llf, minus2llf = fit$deviance,
    aic = fit$deviance + 2 * k, bic = fit$deviance + log(n) * k,
    fixef = arrays(list(names = colnames(s$X), values = fit$beta)), se = se, vcov = fit$vcov, sigma = fit$sigma,
    theta = arrays(list(names = s$names, values = theta)), varcorr = rows, is_singular = min(theta) < 1e-4,
    ranef = effects, fitted = head(fit$fitted, 5), optimum = "dense", gradient = optimum$gradient, runs = lapply(runs, arrays),
    agreement = lapply(runs[c("default", "tight")], function(run) list(
      llf = abs(run$llf / llf - 1), fixef = max(abs(run$fixef - fit$beta) / se), variances = abs(run$sigma^2 / fit$sigma^2 - 1)
    ))
  ))
}

# ---------------------------------------------------------------- one fit, with a note where the tolerances matter
run_case <- function(case, reml) {
  frame <- read_data(input$data[[case$data]])
  started <- proc.time()[3]
  result <- if (is.null(case$nlme)) fit_lmer(case, frame, reml) else fit_structured(case, frame, reml)
  off <- result$agreement$default
  tenth <- c(llf = 1e-8, fixef = 1e-5, se = 1e-5, variances = 1e-5)
  large <- names(off)[unlist(off) > tenth[names(off)]]
  notes <- c(case$note, if (length(large)) sprintf(
    "default tolerance is off by more than a tenth of ours in %s; decided by %s", paste(sprintf("%s (%.1e)", large, unlist(off[large])), collapse = ", "),
    c(tight = "the tight lmer fit", dense = "the dense optimum", newton = "Newton steps on lme4's deviance")[[result$optimum]]
  ))
  cat(sprintf("%-34s %-4s %18.8f  %s%s  [%.1f s]\n", case$id, if (reml) "REML" else "ML", result$llf, result$optimum,
    if (result$is_singular) ", singular" else "", proc.time()[3] - started))
  c(case[setdiff(names(case), c("note", "dense"))], list(reml = reml, note = paste(notes, collapse = "; ")), result)
}

# ---------------------------------------------------------------- JSON with 17 digits (jsonlite stops at 15)
number <- function(x) ifelse(is.finite(x), sprintf("%.17g", x), "null")
json <- function(x) {
  if (is.null(x)) return("null")
  if (is.list(x)) {
    items <- vapply(x, json, "")
    if (is.null(names(x))) return(paste0("[", paste(items, collapse = ", "), "]"))
    return(paste0("{", paste0(vapply(names(x), json, ""), ": ", items, collapse = ", "), "}"))
  }
  if (is.matrix(x)) return(paste0("[", paste(apply(x, 1, function(row) json(as.list(unname(row)))), collapse = ", "), "]"))
  if (length(x) != 1 || inherits(x, "AsIs")) return(json(as.list(unclass(unname(x)))))
  if (is.na(x)) return("null")
  if (is.logical(x)) return(if (x) "true" else "false")
  if (is.numeric(x)) return(number(x))
  as.character(toJSON(x, auto_unbox = TRUE))
}

# ---------------------------------------------------------------- all of it
target <- file.path(here, "lmm.json")
key <- function(id, reml) paste(id, if (reml) "REML" else "ML")
lines <- list()
if (length(wanted)) {
  unknown <- setdiff(wanted, sapply(input$cases, `[[`, "id"))
  if (length(unknown)) stop("no such case: ", paste(unknown, collapse = ", "))
  for (line in grep("^\\{\"id\"", readLines(target), value = TRUE)) {
    line <- sub(",$", "", line)
    head <- regmatches(line, regexec("^\\{\"id\": \"([^\"]+)\".*?\"reml\": (true|false)", line, perl = TRUE))[[1]]
    lines[[key(head[2], head[3] == "true")]] <- line
  }
}
ordered <- character()
for (case in input$cases) for (reml in c(TRUE, FALSE)) {
  name <- key(case$id, reml)
  ordered <- c(ordered, name)
  if (!length(wanted) || case$id %in% wanted) lines[[name]] <- json(run_case(case, reml))
}
packages <- c("lme4", "nlme", "Matrix", "nloptr", "minqa", "jsonlite")
header <- list(
  made_by = "Rscript tests/reference/generate.R", date = format(Sys.Date()), R = R.version.string,
  packages = as.list(sapply(packages, function(p) as.character(packageVersion(p)))), blas = basename(extSoftVersion()[["BLAS"]])
)
writeLines(c(
  "{", paste0("\"header\": ", json(header), ","),
  "\"data\": {", paste0("  ", sapply(names(input$data), json), ": ", sapply(input$data, json), c(rep(",", length(input$data) - 1), "")), "},",
  "\"fits\": [", paste0(unlist(lines[ordered]), c(rep(",", length(ordered) - 1), "")), "]", "}"
), target)
