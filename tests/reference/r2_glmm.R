# R-squared of generalised mixed models -> r2_glmm.json.
#     Rscript tests/reference/r2_glmm.R
# latent: performance::r2_nakagawa. Where the link is a logarithm it takes the observation-level variance at
# exp(b0) of the model with an intercept only; the paper (Nakagawa, Johnson & Schielzeth 2017, J. R. Soc. Interface 14,
# 20170213, equation 5.8) takes lambda = exp(b0 + half the sum of its variances). So for these the figures are the
# paper's formulas on glmmTMB's fits, and performance's own are kept beside them.

suppressMessages({ library(glmmTMB); library(ordinal); library(performance); library(insight); library(jsonlite) })
here <- dirname(normalizePath(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1])))
root <- file.path(here, "..", "..")
read <- function(file) read.csv(file.path(root, file), stringsAsFactors = TRUE)
quietly <- function(expression) suppressMessages(suppressWarnings(expression))

cbpp <- read("sm_multilevel/datasets/cbpp.csv"); cbpp$period <- factor(cbpp$period)
contraception <- read("sm_multilevel/datasets/contraception.csv")
contraception$use01 <- as.numeric(contraception$use == "Y")
epil <- read("sm_multilevel/datasets/epil.csv")
hospital <- read("tests/data/hospital_costs.csv")
wine <- read("sm_multilevel/datasets/wine.csv"); wine$rating <- factor(wine$rating, ordered = TRUE)

own <- function(model) {
  r2 <- quietly(r2_nakagawa(model)); v <- quietly(get_variance(model))
  list(marginal = unname(r2$R2_marginal), conditional = unname(r2$R2_conditional), var_fixed = unname(v$var.fixed),
       var_random = unname(v$var.random), var_residual = unname(v$var.residual))
}

# Mean over rows of z'Gz: Johnson (2014).
spread <- function(model) {
  z <- model.matrix(lme4::findbars(formula(model))[[1]][[2]] |> (\(x) as.formula(paste("~", deparse(x))))(), model$frame)
  g <- VarCorr(model)$cond[[1]]
  mean(rowSums((z %*% g) * z))
}

paper <- function(model, null, unit) {
  lambda <- exp(fixef(null)$cond[[1]] + spread(null) / 2)
  ratio <- unit(lambda, model)              # V(lambda) / lambda^2
  fixed <- var(as.vector(model.matrix(model) %*% fixef(model)$cond)); random <- spread(model)
  at <- function(residual) list(marginal = fixed / (fixed + random + residual),
    conditional = (fixed + random) / (fixed + random + residual), var_fixed = fixed, var_random = random,
    var_residual = residual)
  list(delta = at(ratio), lognormal = at(log1p(ratio)), trigamma = at(trigamma(1 / ratio)), performance = own(model))
}

tight <- glmmTMBControl(optCtrl = list(iter.max = 1e4, eval.max = 1e4, rel.tol = 1e-13))
fit <- function(formula, data, family) glmmTMB(formula, data, family, control = tight)
poisson_unit <- function(lambda, model) 1 / lambda
nb2_unit <- function(lambda, model) 1 / lambda + 1 / sigma(model)
gamma_unit <- function(lambda, model) sigma(model)^2

fits <- list(
  cbpp = list(latent = own(fit(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial))),
  contraception_slope = list(latent = own(fit(use01 ~ urban + age + (urban | district), contraception, binomial))),
  contraception_probit = list(latent = own(fit(use01 ~ urban + age + (1 | district), contraception, binomial("probit")))),
  contraception_cloglog = list(latent = own(fit(use01 ~ urban + age + (1 | district), contraception, binomial("cloglog")))),
  wine = list(latent = own(clmm(rating ~ temp + contact + (1 | judge), wine))),
  epil = paper(fit(y ~ trt + age + (1 | subject), epil, poisson), fit(y ~ 1 + (1 | subject), epil, poisson), poisson_unit),
  epil_slope = paper(fit(y ~ trt + period + (period | subject), epil, poisson),
                     fit(y ~ 1 + (period | subject), epil, poisson), poisson_unit),
  epil_nb2 = paper(fit(y ~ trt + age + (1 | subject), epil, nbinom2), fit(y ~ 1 + (1 | subject), epil, nbinom2), nb2_unit),
  hospital_gamma = paper(fit(cost ~ severity + (1 | hospital), hospital, Gamma("log")),
                         fit(cost ~ 1 + (1 | hospital), hospital, Gamma("log")), gamma_unit)
)
versions <- c(R = as.character(getRversion()), sapply(c("glmmTMB", "ordinal", "performance", "insight"),
  function(p) as.character(packageVersion(p))))
writeLines(toJSON(list(versions = as.list(versions), fits = fits), auto_unbox = TRUE, digits = I(12), pretty = 1),
           file.path(here, "r2_glmm.json"))
