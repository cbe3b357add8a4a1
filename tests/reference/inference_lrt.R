# Reference likelihood-ratio tests: inference_lrt.json, by anova(), lmerTest::ranova and RLRsim.
#     Rscript tests/reference/inference_lrt.R              all cases, a quarter of a minute
#     Rscript tests/reference/inference_lrt.R ID [ID ...]  only these, the others kept as they are
# README.md describes the format. Each case is of one kind: anova, ranova, rlrt or lrt.

helpers_only <- TRUE
source(file.path(dirname(normalizePath(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1]))), "inference_df.R"))
suppressMessages(library(RLRsim))
glmm_input <- fromJSON(file.path(here, "glmm_cases.json"), simplifyVector = FALSE)
data_entries$cbpp <- glmm_input$data$cbpp
simulations <- 1e5
seed <- 20240613

# null: the smaller model; NULL is the formula without its random terms.
pair <- function(id, data, null, formula, reml = FALSE, ...) list(id = id, kind = "anova", data = data, null = null, formula = formula, reml = reml, ...)
# reduced: by ranova's row names, the formula that a row stands for.
table <- function(id, data, formula, reduced, reduce_terms = TRUE) list(id = id, kind = "ranova", data = data, formula = formula, reml = TRUE, reduce_terms = reduce_terms, reduced = reduced)
# only: the model with the tested term alone, where the alternative (formula) and the null have others.
rlrt <- function(id, data, formula, only = NULL, null = NULL) list(id = id, kind = "rlrt", data = data, formula = formula, only = only, null = null, reml = TRUE)
lrt <- function(id, data, formula, null) list(id = id, kind = "lrt", data = data, formula = formula, null = null, reml = FALSE)

lrt_cases <- list(
  pair("anova_orthodont_fixed", "orthodont", "distance ~ age + (age | Subject)", "distance ~ Sex * age + (age | Subject)"),
  pair("anova_oats_fixed", "oats_factor", "Q(\"yield\") ~ nitro + (1 | Block/Variety)", "Q(\"yield\") ~ Variety * nitro + (1 | Block/Variety)"),
  pair("anova_cake_fixed", "cake_factor", "angle ~ recipe + temperature + (1 | recipe:replicate)", "angle ~ recipe * temperature + (1 | recipe:replicate)"),
  pair("anova_sleepstudy_slope", "sleepstudy", "Reaction ~ Days + (1 | Subject)", "Reaction ~ Days + (Days | Subject)"),
  pair("anova_sleepstudy_slope_reml", "sleepstudy", "Reaction ~ Days + (1 | Subject)", "Reaction ~ Days + (Days | Subject)", reml = TRUE),
  pair("anova_sleepstudy_correlation", "sleepstudy", "Reaction ~ Days + (Days || Subject)", "Reaction ~ Days + (Days | Subject)"),
  pair("anova_pastes_batch", "pastes", "strength ~ 1 + (1 | batch:cask)", "strength ~ 1 + (1 | batch) + (1 | batch:cask)"),
  pair("anova_dyestuff2_zero", "dyestuff2", NULL, "Yield ~ 1 + (1 | Batch)"),
  pair("anova_cbpp_fixed", "cbpp", "incidence ~ 1 + (1 | herd)", "incidence ~ period + (1 | herd)", trials = "size", family = "binomial", link = "logit"),
  table("ranova_sleepstudy_slope", "sleepstudy", "Reaction ~ Days + (Days | Subject)", list(`Days in (Days | Subject)` = "Reaction ~ Days + (1 | Subject)")),
  table("ranova_sleepstudy_whole_term", "sleepstudy", "Reaction ~ Days + (Days | Subject)", list(`(Days | Subject)` = "Reaction ~ Days"), FALSE),
  table("ranova_sleepstudy_uncorrelated", "sleepstudy", "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)", list(
    `(1 | Subject)` = "Reaction ~ Days + (0 + Days | Subject)", `Days in (0 + Days | Subject)` = "Reaction ~ Days + (1 | Subject)"
  )),
  table("ranova_penicillin", "penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", list(
    `(1 | plate)` = "diameter ~ 1 + (1 | sample)", `(1 | sample)` = "diameter ~ 1 + (1 | plate)"
  )),
  table("ranova_pastes", "pastes", "strength ~ 1 + (1 | batch) + (1 | batch:cask)", list(
    `(1 | batch)` = "strength ~ 1 + (1 | batch:cask)", `(1 | batch:cask)` = "strength ~ 1 + (1 | batch)"
  )),
  table("ranova_machines_nested", "machines", "score ~ Machine + (1 | Worker) + (1 | Worker:Machine)", list(
    `(1 | Worker)` = "score ~ Machine + (1 | Worker:Machine)", `(1 | Worker:Machine)` = "score ~ Machine + (1 | Worker)"
  )),
  table("ranova_tvbo", "tvbo", "Coloursaturation ~ TVset + (TVset | Assessor) + (1 | Picture)", list(
    `TVset in (TVset | Assessor)` = "Coloursaturation ~ TVset + (1 | Assessor) + (1 | Picture)", `(1 | Picture)` = "Coloursaturation ~ TVset + (TVset | Assessor)"
  )),
  table("ranova_assay_zero", "assay", "logDens ~ sample + dilut + (1 | Block) + (1 | Block:sample) + (1 | Block:dilut)", list(
    `(1 | Block)` = "logDens ~ sample + dilut + (1 | Block:sample) + (1 | Block:dilut)",
    `(1 | Block:sample)` = "logDens ~ sample + dilut + (1 | Block) + (1 | Block:dilut)",
    `(1 | Block:dilut)` = "logDens ~ sample + dilut + (1 | Block) + (1 | Block:sample)"
  )),
  rlrt("rlrt_dyestuff", "dyestuff", "Yield ~ 1 + (1 | Batch)"),
  rlrt("rlrt_dyestuff2_zero", "dyestuff2", "Yield ~ 1 + (1 | Batch)"),
  rlrt("rlrt_pastes_batch_alone", "pastes", "strength ~ 1 + (1 | batch)"),
  rlrt("rlrt_assay_block_alone", "assay", "logDens ~ sample + dilut + (1 | Block)"),
  rlrt("rlrt_tvbo_picture_alone", "tvbo", "Coloursaturation ~ TVset + (1 | Picture)"),
  rlrt("rlrt_carrots_product_alone", "carrots", "Preference ~ sens1 + sens2 + (1 | Product)"),
  rlrt("rlrt_ergostool", "ergostool", "effort ~ Type + (1 | Subject)"),
  rlrt("rlrt_pastes_batch", "pastes", "strength ~ 1 + (1 | batch) + (1 | batch:cask)", "strength ~ 1 + (1 | batch)", "strength ~ 1 + (1 | batch:cask)"),
  rlrt("rlrt_sleepstudy_slope", "sleepstudy", "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)", "Reaction ~ Days + (0 + Days | Subject)", "Reaction ~ Days + (1 | Subject)"),
  rlrt("rlrt_oats_plots", "oats", "Q(\"yield\") ~ Variety + nitro + (1 | Block) + (1 | Block:Variety)", "Q(\"yield\") ~ Variety + nitro + (1 | Block:Variety)", "Q(\"yield\") ~ Variety + nitro + (1 | Block)"),
  rlrt("rlrt_assay_sample_in_block", "assay", "logDens ~ sample + dilut + (1 | Block) + (1 | Block:sample)", "logDens ~ sample + dilut + (1 | Block:sample)", "logDens ~ sample + dilut + (1 | Block)"),
  rlrt("rlrt_tvbo_picture", "tvbo", "Coloursaturation ~ TVset + (1 | Assessor) + (1 | Picture)", "Coloursaturation ~ TVset + (1 | Picture)", "Coloursaturation ~ TVset + (1 | Assessor)"),
  lrt("lrt_dyestuff", "dyestuff", "Yield ~ 1 + (1 | Batch)", "Yield ~ 1"),
  lrt("lrt_pastes_batch_alone", "pastes", "strength ~ 1 + (1 | batch)", "strength ~ 1"),
  lrt("lrt_assay_block_alone", "assay", "logDens ~ sample + dilut + (1 | Block)", "logDens ~ sample + dilut"),
  lrt("lrt_alfalfa_date_and_variety", "alfalfa", "Yield ~ Variety + (1 | Date)", "Yield ~ 1"),
  lrt("lrt_tvbo_picture_and_repeat", "tvbo", "Contrast ~ Repeat + (1 | Picture)", "Contrast ~ 1"),
  lrt("lrt_ham_product_and_age", "ham", "Informed_liking ~ Age + (1 | Product)", "Informed_liking ~ 1"),
  lrt("lrt_carrots_product_alone", "carrots", "Preference ~ sens1 + sens2 + (1 | Product)", "Preference ~ sens1 + sens2")
)

has_bars <- function(text) grepl("|", text, fixed = TRUE)
llf_of <- function(text, frame, reml) if (has_bars(text)) {
  as.numeric(logLik(fit_tight(list(formula = text), frame, reml)$model))
} else as.numeric(logLik(lm(as.formula(in_r(text)), frame), REML = reml))

run_anova <- function(case, frame) {
  if (!is.null(case$family)) {
    made <- function(text) quietly(glmer(
      as.formula(sub("^(\\w+) ~", sprintf("cbind(\\1, %s - \\1) ~", case$trials), text)), frame, binomial(case$link),
      control = glmerControl(optimizer = "bobyqa", tolPwrss = 1e-12, optCtrl = list(rhoend = 1e-9, maxfun = 1e5))
    ))
  } else made <- function(text) if (has_bars(text)) fit_tight(list(formula = text), frame, case$reml)$model else do.call(lm, list(as.formula(in_r(text)), data = frame))
  if (is.null(case$null)) case$null <- sub(" \\+ \\(.*", "", case$formula)
  null <- made(case$null)
  full <- made(case$formula)
  done <- recorded(anova(full, null, refit = FALSE))
  t <- done$value
  c(case, list(
    llf_null = as.numeric(logLik(null, REML = case$reml)), llf = as.numeric(logLik(full)), npar = I(t$npar), aic = I(t$AIC), bic = I(t$BIC),
    chi2 = t$Chisq[2], df = t$Df[2], p = t[["Pr(>Chisq)"]][2], said = I(done$said)
  ))
}

run_ranova <- function(case, frame) {
  # ranova fits the reduced models by updating the call: a real optimiser, at its tightest, for all of them.
  model <- quietly(do.call(lmerTest::lmer, list(as.formula(in_r(case$formula)), data = frame, REML = TRUE, control = lmerControl(
    optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e5), calc.derivs = FALSE
  ))))
  done <- recorded(ranova(model, reduce.terms = case$reduce_terms))
  t <- done$value
  labels <- rownames(t)
  stopifnot(setequal(labels[-1], names(case$reduced)))
  rows <- lapply(seq_along(labels), function(k) {
    formula <- if (k == 1) case$formula else case$reduced[[labels[k]]]
    own <- llf_of(formula, frame, TRUE)
    list(row = labels[k], formula = formula, npar = t$npar[k], llf = t$logLik[k], llf_tight = own, aic = t$AIC[k], lrt = t$LRT[k], df = t$Df[k], p = t[["Pr(>Chisq)"]][k])
  })
  cat(sprintf("  ranova's log-likelihoods off by %.0e\n", max(abs(sapply(rows, function(r) r$llf - r$llf_tight)))))
  c(case[setdiff(names(case), "reduced")], list(rows = rows, said = I(done$said)))
}

run_simulated <- function(case, frame) {
  made <- function(text) fit_tight(list(formula = text), frame, case$reml)$model
  model <- made(case$formula)
  set.seed(seed)
  simulate <- if (case$kind == "lrt") {
    null <- lm(as.formula(in_r(case$null)), frame)
    function() exactLRT(model, null, nsim = simulations)
  } else if (is.null(case$only)) {
    function() exactRLRT(model, nsim = simulations)
  } else {
    alone <- made(case$only)
    reduced <- made(case$null)
    function() exactRLRT(alone, mA = model, m0 = reduced, nsim = simulations)
  }
  done <- recorded(simulate())
  test <- done$value
  null_text <- if (is.null(case$null)) sub(" \\+ \\(.*", "", case$formula) else case$null
  sample <- test$sample
  p <- unname(test$p.value)
  levels <- c(0.5, 0.9, 0.95, 0.99)
  # standard errors of the quantiles from the order statistics
  spread <- function(q) diff(quantile(sample, pmin(1, q + c(-1, 1) * sqrt(q * (1 - q) / length(sample)))))[[1]] / 2
  case$null <- null_text
  cat(sprintf("  statistic %.6f  p %.5f\n", test$statistic, p))
  c(case[!vapply(case, is.null, NA)], list(
    nobs = nobs(model), llf = as.numeric(logLik(model)), llf_null = llf_of(null_text, frame, case$reml), statistic = unname(test$statistic),
    p = p, mc_error = sqrt(max(p, 1 / simulations) * (1 - min(p, 1 - 1 / simulations)) / simulations), simulations = simulations, seed = seed, zero = mean(sample == 0),
    quantiles = list(probability = I(levels), value = I(unname(quantile(sample, levels))), mc_error = I(sapply(levels, spread))),
    is_singular = isSingular(model), said = I(done$said),
    note = if (test$statistic < 1e-9) "the statistic is zero but for rounding, so the p-value is 1; RLRsim counts the simulations above the rounding"
  ))
}

run_lrt <- function(case) {
  frame <- frame_of(case)
  list(switch(case$kind, anova = run_anova, ranova = run_ranova, rlrt = , lrt = run_simulated)(case, frame))
}

run_all("inference_lrt.R", c("lme4", "lmerTest", "RLRsim", "Matrix", "nloptr", "minqa", "jsonlite"), lrt_cases, run_lrt)
