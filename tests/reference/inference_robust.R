# Reference cluster-robust covariances: inference_robust.json, by clubSandwich on lmer's tight fits.
#     Rscript tests/reference/inference_robust.R              all cases, half a minute
#     Rscript tests/reference/inference_robust.R ID [ID ...]  only these, the others kept as they are
# README.md describes the format.

helpers_only <- TRUE
source(file.path(dirname(normalizePath(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1]))), "inference_df.R"))
detach("package:lmerTest")
suppressMessages({ library(clubSandwich); library(nlme) })

# cluster: column given to vcovCR; lme: the model by nlme too, as the fixed and random arguments (and weights).
robust_cases <- list(
  list(id = "sleepstudy_slope", data = "sleepstudy", formula = "Reaction ~ Days + (Days | Subject)", cluster = "Subject", ml = TRUE, lme = "~ Days | Subject"),
  list(id = "orthodont_slope", data = "orthodont", formula = "distance ~ Sex * age + (age | Subject)", cluster = "Subject", ml = TRUE, lme = "~ age | Subject"),
  list(id = "orthodont_intercept", data = "orthodont", formula = "distance ~ Sex * age + (1 | Subject)", cluster = "Subject"),
  list(id = "bodyweight", data = "bodyweight", formula = "weight ~ Diet * Time + (Time | Rat)", cluster = "Rat"),
  list(id = "chickweight_unbalanced", data = "chickweight", formula = "weight ~ Diet * Time + (Time | Chick)", cluster = "Chick", ml = TRUE, lme = "~ Time | Chick"),
  list(id = "early_singular", data = "early", formula = "cog ~ trt * age + (age | id)", cluster = "id"),
  list(id = "oats_split_plot", data = "oats_factor", formula = "Q(\"yield\") ~ Variety * nitro + (1 | Block/Variety)", cluster = "Block"),
  list(id = "oats_linear", data = "oats", formula = "Q(\"yield\") ~ Variety + nitro + (1 | Block/Variety)", cluster = "Block", ml = TRUE, lme = "~ 1 | Block/Variety"),
  list(id = "exam_part", data = "exam", rows = "school <= 20", formula = "normexam ~ sex + type + standLRT + (standLRT | school)", cluster = "school"),
  list(id = "egsingle_three_level", data = "egsingle", rows = "schoolid <= 2750", formula = "math ~ female + lowinc + year + (year | schoolid) + (1 | schoolid:childid)", cluster = "schoolid"),
  list(id = "egsingle_coarser", data = "egsingle", rows = "schoolid <= 2750", formula = "math ~ female + lowinc + year + (year | childid)", cluster = "schoolid"),
  list(id = "chem97_three_level", data = "chem97", rows = "lea <= 15", formula = "score ~ gender + gcsecnt + (1 | lea) + (1 | school)", cluster = "lea", ml = TRUE),
  list(id = "chem97_coarser", data = "chem97", rows = "lea <= 15", formula = "score ~ gender + gcsecnt + (gcsecnt | school)", cluster = "lea"),
  list(id = "mathachieve_sector", data = "mathachieve", formula = "mathach ~ sector + minority + ses + (1 | school)", cluster = "school"),
  list(id = "sleepstudy_weighted_slope", data = "sleepstudy_weights", formula = "Reaction ~ Days + (Days | Subject)", weights = "w", cluster = "Subject", lme = "~ Days | Subject"),
  list(id = "penicillin_crossed", data = "penicillin", formula = "diameter ~ 1 + (1 | plate) + (1 | sample)", cluster = "plate")
)
types <- c("CR0", "CR1", "CR1S", "CR2")

sandwiches <- function(model, cluster, tests) lapply(setNames(nm = types), function(type) {
  V <- vcovCR(model, cluster = cluster, type = type)
  table <- coef_test(model, vcov = V, test = c("naive-t", "Satterthwaite"))
  column <- function(name) I(unname(table[[name]]))
  list(
    vcov = unname(as.matrix(V)), se = column("SE"), t = column("tstat"), df = column("df_Satt"), p = column("p_Satt"), df_naive = column("df_t"), p_naive = column("p_t"),
    wald = lapply(tests, function(test) {
      wald <- Wald_test(model, constrain_zero(unclass(test$columns) + 1), V, test = c("chi-sq", "Naive-F", "HTZ"))
      row <- wald[wald$test == "HTZ", ]
      list(F = row$Fstat, delta = row$delta, num_df = row$df_num, den_df = row$df_denom, p = row$p_val,
        Q = wald$Fstat[1] * wald$df_num[1], p_chi2 = wald$p_val[1], F_naive = wald$Fstat[2], den_df_naive = wald$df_denom[2], p_naive = wald$p_val[2])
    })
  )
})

# The same model by nlme at its tightest: how far clubSandwich's numbers for lme are from those for lmer.
by_lme <- function(case, frame, reml) {
  arguments <- list(
    as.formula(sub(" \\+ \\(.*", "", in_r(case$formula))), data = frame, random = as.formula(case$lme), method = if (reml) "REML" else "ML",
    control = lmeControl(tolerance = 1e-12, msTol = 1e-14, maxIter = 1000, msMaxIter = 1000, niterEM = 100, returnObject = TRUE)
  )
  if (!is.null(case$weights)) arguments$weights <- varFixed(as.formula(paste0("~ I(1 / ", case$weights, ")")))
  quietly(do.call(lme, arguments))
}

run_robust <- function(case) lapply(c(TRUE, if (isTRUE(case$ml)) FALSE), function(reml) {
  frame <- frame_of(case)
  cluster <- factor(frame[[case$cluster]])
  fit <- fit_tight(case, frame, reml)
  model <- fit$model
  tests <- Filter(function(term) length(term$columns) > 1, fixed_terms(model))
  others <- setdiff(seq_along(fixef(model)), which(names(fixef(model)) == "(Intercept)"))
  if (length(others) > 1) tests <- c(tests, list(list(term = "all but the intercept", columns = others - 1)))
  tests <- Filter(function(test) length(test$columns) < nlevels(cluster), tests) # more is a singular matrix
  tests <- lapply(tests, function(test) list(term = test$term, columns = I(test$columns)))
  result <- c(case[setdiff(names(case), c("ml", "lme"))], list(reml = reml), describe_fit(model), list(nclusters = nlevels(cluster), tests = tests))
  done <- recorded(sandwiches(model, cluster, tests))
  said <- done$said
  if (!is.null(case$weights)) {
    # Not of the model with rows multiplied by sqrt(w), as for the degrees of freedom: CR2 changes under that.
    result$note <- "clubSandwich refuses lmer with weights (said): the numbers are for nlme's fit with varFixed, good to 1e-7"
    done <- recorded(sandwiches(by_lme(case, frame, reml), cluster, tests))
    case$lme <- NULL
  }
  result <- c(result, done$value)
  off <- NULL
  if (!is.null(case$lme)) {
    other <- recorded(sandwiches(by_lme(case, frame, reml), cluster, tests))
    if (!is.null(other$value)) {
      far <- function(a, b) if (length(unlist(a))) max(abs(unlist(a) / unlist(b) - 1)) else 0
      off <- list(
        se = max(sapply(types, function(t) far(other$value[[t]]$se, done$value[[t]]$se))), df = max(sapply(types, function(t) far(other$value[[t]]$df, done$value[[t]]$df))),
        wald_F = max(sapply(types, function(t) far(lapply(other$value[[t]]$wald, `[[`, "F"), lapply(done$value[[t]]$wald, `[[`, "F"))))
      )
      result$lme <- c(off, lapply(setNames(nm = types), function(t) other$value[[t]][c("se", "df")]))
    }
    result$lme$said <- I(other$said)
  }
  result$said <- I(unique(c(said, done$said)))
  cat(sprintf("  %-4s n %4d, clusters %3d%s  %s  %s\n", if (reml) "REML" else "ML", nobs(model), nlevels(cluster), if (isSingular(model)) ", singular" else "",
    if (is.null(off)) "" else sprintf("lme off by se %.0e df %.0e F %.0e", off$se, off$df, off$wald_F), paste(c(result$said, result$lme$said), collapse = "; ")))
  result
})

run_all("inference_robust.R", c("clubSandwich", "lme4", "nlme", "Matrix", "nloptr", "minqa", "jsonlite"), robust_cases, run_robust)
