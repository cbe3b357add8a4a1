# Reference degrees of freedom: inference_df.json, by lmerTest (Satterthwaite, Kenward-Roger) and pbkrtest.
#     Rscript tests/reference/inference_df.R              all cases, seven minutes
#     Rscript tests/reference/inference_df.R ID [ID ...]  only these, the others kept as they are
# README.md describes the format. The other inference_*.R take their helpers from here.

suppressMessages({ library(lme4); library(lmerTest); library(pbkrtest); library(Matrix); library(jsonlite) })
here <- dirname(normalizePath(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1])))
root <- file.path(here, "..", "..")
input <- fromJSON(file.path(here, "lmm_cases.json"), simplifyVector = FALSE)
source(file.path(here, "dense.R"))
# Functions of generate.R, which is a script: its assignments of these names, without the run.
for (statement in parse(file.path(here, "generate.R"))) {
  if (is.call(statement) && identical(statement[[1]], as.name("<-")) && is.name(statement[[2]]) && as.character(statement[[2]]) %in% c(
    "natural_levels", "read_data", "quietly", "tighten", "flip", "snap", "rows_of", "varcorr_rows", "number", "json"
  )) eval(statement)
}

# ---------------------------------------------------------------- data
# Besides those of lmm_cases.json: the same files with factors made of numbers, and InstEval with s and d as numbers.
data_entries <- c(input$data, list(
  oats_factor = list(file = "tests/data/oats.csv", factors = list(nitro = NULL)),
  cake_factor = list(file = "tests/data/cake.csv", factors = list(temperature = NULL)),
  oxide_factor = list(file = "tests/data/oxide.csv", factors = list(Source = NULL)),
  insteval_numbers = input$data$insteval[c("file", "factors")]
))

frame_of <- function(case) {
  frame <- read_data(data_entries[[case$data]])
  if (!is.null(case$rows)) frame <- droplevels(frame[eval(parse(text = case$rows), frame), ])
  frame
}

# Our formula in R's words. R keeps the order of main effects and interactions that patsy has.
in_r <- function(text) gsub("Q(\"yield\")", "yield", gsub("**", "^", text, fixed = TRUE), fixed = TRUE)

# patsy's names of R's columns, in R's order (checked against patsy: the same order in all cases here).
python_variable <- function(name) gsub("\\^", " ** ", name)
python_columns <- function(label, frame, contrast = TRUE) {
  if (label == "(Intercept)") return("Intercept")
  parts <- lapply(strsplit(label, ":", fixed = TRUE)[[1]], function(variable) {
    levels <- levels(frame[[variable]])
    if (is.null(levels)) python_variable(variable) else paste0(variable, "[T.", levels[-1], "]")
  })
  do.call(paste, c(unname(as.list(expand.grid(parts, stringsAsFactors = FALSE))), sep = ":"))
}

# The terms of the fixed part: name, columns (from 0) and rows of L.
fixed_terms <- function(model) {
  X <- getME(model, "X")
  assign <- attr(X, "assign")
  labels <- c("(Intercept)", attr(terms(model), "term.labels"))
  lapply(sort(unique(assign)), function(k) {
    at <- which(assign == k)
    list(term = if (k == 0) "Intercept" else python_variable(labels[k + 1]), columns = at - 1, L = diag(ncol(X))[at, , drop = FALSE])
  })
}
python_names <- function(model) {
  assign <- attr(getME(model, "X"), "assign")
  labels <- c("(Intercept)", attr(terms(model), "term.labels"))
  unlist(lapply(labels[sort(unique(assign)) + 1], python_columns, frame = model@frame))
}

# ---------------------------------------------------------------- fits at the tightest tolerance
# As generate.R: default, tightened, Newton's method on lme4's own deviance. The model is then made by
# lmer itself with an optimiser that returns this theta, because lmerTest evaluates the model's call again.
given_theta <- NULL
at_given_theta <- function(fn, par, lower, upper, control, ...) list(par = given_theta, fval = fn(given_theta), conv = 0, feval = 1)

fit_tight <- function(case, frame, reml, formula = as.formula(in_r(case$formula))) {
  arguments <- list(formula = formula, data = frame, REML = reml)
  if (!is.null(case$weights)) arguments$weights <- as.name(case$weights)
  default <- quietly(do.call(lme4::lmer, arguments))
  parsed <- quietly(do.call(lFormula, arguments))
  devfun <- do.call(mkLmerDevfun, parsed)
  lower <- environment(devfun)$lower
  theta <- tighten(devfun, getME(default, "theta"), lower)
  theta <- snap(devfun, flip(newton(devfun, theta), parsed$reTrms), lower)
  given_theta <<- theta
  arguments$control <- lmerControl(optimizer = "at_given_theta", calc.derivs = FALSE, check.conv.singular = "ignore")
  list(model = quietly(do.call(lme4::lmer, arguments)), arguments = arguments)
}

# Messages and warnings of an evaluation, beside its value or its error.
recorded <- function(expression) {
  said <- character()
  note <- function(kind) function(c) {
    said <<- c(said, trimws(gsub("\\s+", " ", conditionMessage(c))))
    invokeRestart(kind)
  }
  value <- tryCatch(
    withCallingHandlers(expression, message = note("muffleMessage"), warning = note("muffleWarning")),
    error = function(e) { said <<- c(said, paste("error:", conditionMessage(e))); NULL }
  )
  list(value = value, said = unique(said))
}

describe_fit <- function(model) {
  list(
    nobs = nobs(model), ngroups = as.list(sapply(getME(model, "flist"), nlevels)), llf = as.numeric(logLik(model)),
    fixef = list(names = I(names(fixef(model))), values = I(unname(fixef(model)))),
    python_names = I(python_names(model)), se = I(unname(sqrt(diag(as.matrix(vcov(model)))))), vcov = unname(as.matrix(vcov(model))),
    sigma = sigma(model), theta = list(names = I(names(getME(model, "theta"))), values = I(unname(getME(model, "theta")))),
    varcorr = varcorr_rows(rows_of(model)), is_singular = isSingular(model)
  )
}

header <- function(script, packages) list(
  made_by = paste0("Rscript tests/reference/", script), date = format(Sys.Date()), R = R.version.string,
  packages = as.list(sapply(packages, function(p) as.character(packageVersion(p)))), blas = basename(extSoftVersion()[["BLAS"]])
)

# Run the cases (all or those wanted), one line a fit, the others kept; the file is rewritten after each.
run_all <- function(script, packages, cases, run, wanted = commandArgs(trailingOnly = TRUE)) {
  target <- file.path(here, sub("\\.R$", ".json", script))
  ids <- vapply(cases, function(case) case$id, "")
  stopifnot(!anyDuplicated(ids), all(wanted %in% ids))
  store <- list()
  if (length(wanted) && file.exists(target)) for (line in sub(",$", "", grep("^\\{\"id\"", readLines(target), value = TRUE))) {
    id <- sub("^\\{\"id\": \"([^\"]+)\".*", "\\1", line)
    store[[id]] <- c(store[[id]], line)
  }
  for (case in cases) {
    if (length(wanted) && !(case$id %in% wanted)) next
    started <- proc.time()[3]
    store[[case$id]] <- vapply(run(case), json, "")
    cat(sprintf("%-30s %6.1f s\n", case$id, proc.time()[3] - started))
    used <- unique(vapply(cases, function(case) case$data, ""))
    lines <- unlist(store[intersect(ids, names(store))], use.names = FALSE)
    writeLines(c(
      "{", paste0("\"header\": ", json(header(script, packages)), ","),
      "\"data\": {", paste0("  ", sapply(used, json), ": ", sapply(data_entries[used], json), c(rep(",", length(used) - 1), "")), "},",
      "\"fits\": [", paste0(lines, c(rep(",", length(lines) - 1), "")), "]", "}"
    ), paste0(target, ".part"))
    invisible(file.rename(paste0(target, ".part"), target))
  }
}

# ---------------------------------------------------------------- cases
# rows: condition in words that R and pandas' query share. ml: by ML too (Satterthwaite only).
df_cases <- list(
  list(id = "sleepstudy_slope", data = "sleepstudy", formula = "Reaction ~ Days + (Days | Subject)", ml = TRUE),
  list(id = "sleepstudy_uncorrelated", data = "sleepstudy", formula = "Reaction ~ Days + (Days || Subject)"),
  list(id = "sleepstudy_weighted_slope", data = "sleepstudy_weights", formula = "Reaction ~ Days + (Days | Subject)", weights = "w"),
  list(id = "orthodont_slope", data = "orthodont", formula = "distance ~ Sex * age + (age | Subject)", ml = TRUE),
  list(id = "orthodont_intercept", data = "orthodont", formula = "distance ~ Sex * age + (1 | Subject)"),
  list(id = "oats_split_plot", data = "oats_factor", formula = "Q(\"yield\") ~ Variety * nitro + (1 | Block/Variety)", ml = TRUE),
  list(id = "oats_linear", data = "oats", formula = "Q(\"yield\") ~ Variety + nitro + (1 | Block/Variety)"),
  list(id = "alfalfa_split_plot", data = "alfalfa", formula = "Yield ~ Variety * Date + (1 | Block/Variety)"),
  list(id = "penicillin", data = "penicillin", formula = "diameter ~ 1 + (1 | plate) + (1 | sample)"),
  list(id = "pastes_nested", data = "pastes", formula = "strength ~ 1 + (1 | batch/cask)"),
  list(id = "dyestuff", data = "dyestuff", formula = "Yield ~ 1 + (1 | Batch)"),
  list(id = "dyestuff2_singular", data = "dyestuff2", formula = "Yield ~ 1 + (1 | Batch)"),
  list(id = "machines_slopes", data = "machines", formula = "score ~ Machine + (Machine | Worker)"),
  list(id = "machines_nested", data = "machines", formula = "score ~ Machine + (1 | Worker/Machine)"),
  list(id = "cake_levels", data = "cake_factor", formula = "angle ~ recipe * temperature + (1 | recipe:replicate)"),
  list(id = "cake_slope_singular", data = "cake", formula = "angle ~ recipe + temp + (temp | recipe:replicate)"),
  list(id = "early_singular", data = "early", formula = "cog ~ trt * age + (age | id)", ml = TRUE),
  list(id = "assay_zero_variance", data = "assay", formula = "logDens ~ sample + dilut + (1 | Block) + (1 | Block:sample) + (1 | Block:dilut)"),
  list(id = "oxide_nested", data = "oxide_factor", formula = "Thickness ~ Source + (1 | Lot/Wafer)"),
  list(id = "pixel", data = "pixel", formula = "pixel ~ day + I(day**2) + (day | Dog) + (1 | Dog:Side)"),
  list(id = "bodyweight", data = "bodyweight", formula = "weight ~ Diet * Time + (Time | Rat)"),
  list(id = "tvbo_crossed_slopes", data = "tvbo", formula = "Coloursaturation ~ TVset + (TVset | Assessor) + (1 | Picture)"),
  list(id = "ham_crossed", data = "ham", formula = "Informed_liking ~ Age + (1 | Consumer) + (1 | Product) + (1 | Consumer:Product)"),
  list(id = "chickweight_unbalanced", data = "chickweight", formula = "weight ~ Diet * Time + (Time | Chick)"),
  list(id = "egsingle_part", data = "egsingle", rows = "schoolid <= 2360", formula = "math ~ female + lowinc + year + (year | schoolid) + (1 | childid)", ml = TRUE),
  list(id = "exam_part", data = "exam", rows = "school <= 20", formula = "normexam ~ sex + type + standLRT + (standLRT | school)"),
  list(id = "carrots_crossed_slopes", data = "carrots", formula = "Preference ~ sens1 + sens2 + (sens2 | Consumer) + (1 | Product)"),
  list(id = "insteval_part", data = "insteval_numbers", rows = "s <= 60", formula = "y ~ service + lectage + (1 | s) + (1 | d)"),
  list(id = "insteval_dept_part", data = "insteval_numbers", rows = "s <= 60", formula = "y ~ service + dept + (1 | s) + (1 | d)")
)

# ---------------------------------------------------------------- one case
# Two arbitrary contrasts of p coefficients.
contrasts_of <- function(p) if (p == 1) list(1, -2) else list(rep(1, p), (-1)^seq_len(p) * seq_len(p) / p)

one_row <- function(table) list(F = table[["F value"]], num_df = table[["NumDF"]], den_df = table[["DenDF"]], p = table[["Pr(>F)"]])
one_contrast <- function(table) list(estimate = table[["Estimate"]], se = table[["Std. Error"]], df = table[["df"]], t = table[["t value"]], p = table[["Pr(>|t|)"]])

coefficient_table <- function(model, ddf) {
  table <- coef(summary(model, ddf = ddf))
  column <- function(name) I(unname(table[, name]))
  list(se = column("Std. Error"), df = column("df"), t = column("t value"), p = column("Pr(>|t|)"))
}

# A second opinion on Satterthwaite's df: Hessian of -2 log-likelihood (restricted) in theta and sigma, lmerTest's
# variance parameters, and gradient of each coefficient's variance, with a wider step where theta is zero
# (numDeriv's own of 1e-4 there leaves lmerTest's Hessian four digits).
second_opinion <- function(arguments, model, reml) {
  arguments$control <- NULL
  devfun <- do.call(mkLmerDevfun, quietly(do.call(lFormula, arguments)))
  space <- environment(devfun)
  n <- nobs(model)
  p <- length(fixef(model))
  own <- function(x) {
    devfun(x[-length(x)])
    s2 <- x[length(x)]^2
    pwrss <- space$pp$sqrL(1) + space$resp$wrss()
    space$pp$ldL2() + (if (reml) space$pp$ldRX2() else 0) + pwrss / s2 + (n - reml * p) * log(2 * pi * s2)
  }
  variances <- function(x) {
    devfun(x[-length(x)])
    x[length(x)]^2 * diag(space$pp$unsc())
  }
  x <- unname(c(getME(model, "theta"), sigma(model)))
  scale <- ifelse(x == 0, 1 / sqrt(pmax(diag(numDeriv::hessian(own, x)), 1e-8)), 1)
  hessian <- numDeriv::hessian(function(z) own(scale * z), x / scale, method.args = list(eps = 0.1)) / outer(scale, scale)
  gradients <- numDeriv::jacobian(function(z) variances(scale * z), x / scale, method.args = list(d = 0.01, eps = 0.01))
  gradients <- t(t(gradients) / scale)
  covariance <- 2 * solve(hessian)
  list(hessian = hessian, eigenvalues = I(eigen(hessian, TRUE)$values), df = I(2 * variances(x)^2 / rowSums((gradients %*% covariance) * gradients)))
}

by_ddf <- function(model, ddf, tests, contrasts) {
  done <- recorded(list(
    coefficients = coefficient_table(model, ddf),
    tests = lapply(tests, function(test) one_row(contestMD(model, test$L, ddf = ddf))),
    contrasts = lapply(contrasts, function(L) one_contrast(contest1D(model, L, ddf = ddf)))
  ))
  c(done$value, list(said = I(done$said)))
}

by_pbkrtest <- function(model, tests) {
  seconds <- system.time(adjusted <- vcovAdj(model))[["elapsed"]]
  p <- length(fixef(model))
  done <- recorded(list(
    vcov_adjusted = unname(as.matrix(adjusted)), W = unname(as.matrix(attr(adjusted, "W"))), condition = attr(adjusted, "condi"),
    df = I(vapply(seq_len(p), function(k) get_Lb_ddf(model, diag(p)[k, ]), 0)),
    tests = lapply(tests, function(test) {
      stats <- KRmodcomp(model, test$L)$stats
      list(num_df = stats$ndf, ddf = stats$ddf, F_scaling = stats$F.scaling, F = stats$Fstat, p = stats$p.value, F_unscaled = stats$FstatU, p_unscaled = stats$p.valueU)
    })
  ))
  c(done$value, list(seconds = seconds, said = I(done$said)))
}

# pbkrtest knows no weights: the same model with rows multiplied by the roots of the weights.
rooted <- function(case, frame, model) {
  root <- sqrt(frame[[case$weights]])
  X <- getME(model, "X") * root
  d <- data.frame(y = getME(model, "y") * root, X1 = X[, 1], X2 = X[, 2], Subject = frame$Subject)
  fit_tight(list(), d, TRUE, y ~ 0 + X1 + X2 + (0 + X1 + X2 | Subject))$model
}

run_df <- function(case) lapply(c(TRUE, if (isTRUE(case$ml)) FALSE), function(reml) {
  frame <- frame_of(case)
  fit <- fit_tight(case, frame, reml)
  made <- recorded(as_lmerModLmerTest(fit$model))
  model <- made$value
  p <- length(fixef(model))
  tests <- lapply(fixed_terms(model), function(term) { term$L <- unname(term$L); term$columns <- I(term$columns); term })
  others <- setdiff(seq_len(p), which(names(fixef(model)) == "(Intercept)"))
  if (length(others) > 1) tests <- c(tests, list(list(term = "all but the intercept", columns = I(others - 1), L = diag(p)[others, , drop = FALSE])))
  contrasts <- contrasts_of(p)
  result <- c(
    case[setdiff(names(case), "ml")], list(reml = reml), describe_fit(fit$model),
    list(
      tests = tests, contrasts = lapply(contrasts, I),
      second_opinion = second_opinion(fit$arguments, fit$model, reml),
      vcov_varpar = unname(model@vcov_varpar), said = I(made$said), satterthwaite = by_ddf(model, "Satterthwaite", tests, contrasts)
    )
  )
  if (reml) {
    of <- if (is.null(case$weights)) model else quietly(as_lmerModLmerTest(rooted(case, frame, fit$model)))
    if (!is.null(case$weights)) result$note <- "pbkrtest ignores weights: kenward_roger and pbkrtest are of the equivalent model with rows multiplied by sqrt(w)"
    result$kenward_roger <- by_ddf(of, "Kenward-Roger", tests, contrasts)
    of <- if (is.null(case$weights)) fit$model else of
    result$pbkrtest <- by_pbkrtest(of, tests)
  }
  known <- Filter(function(f) f$id == case$id && f$reml == reml && identical(f$formula, case$formula), reference)
  if (length(known)) cat(sprintf("  llf - reference %.1e\n", as.numeric(logLik(fit$model)) - known[[1]]$llf))
  said <- unique(c(made$said, result$satterthwaite$said, result$kenward_roger$said, result$pbkrtest$said))
  off <- max(abs(result$satterthwaite$coefficients$df / result$second_opinion$df - 1))
  cat(sprintf("  %-28s %-4s n %4d%s  smallest eigenvalue %.1e  df off by %.0e  pbkrtest %.1f s  %s\n", case$id, if (reml) "REML" else "ML", nobs(model),
    if (isSingular(model)) " singular" else "", min(result$second_opinion$eigenvalues), off, if (reml) result$pbkrtest$seconds else NaN, paste(said, collapse = "; ")))
  result
})

if (!exists("helpers_only")) {
  reference <- fromJSON(file.path(here, "lmm.json"), simplifyVector = FALSE)$fits
  run_all("inference_df.R", c("lme4", "lmerTest", "pbkrtest", "numDeriv", "Matrix", "nloptr", "minqa", "jsonlite"), df_cases, run_df)
}
