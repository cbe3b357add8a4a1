# What tests/benchmarks/bootstrap.py times beside ours: seconds of bootMer().
suppressMessages(library(lme4))
n <- as.integer(commandArgs(trailingOnly = TRUE)[1])
m <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy)
f <- function(m) { v <- as.data.frame(VarCorr(m)); c(fixef(m), v$vcov, v$sdcor) }
took <- system.time(suppressMessages(suppressWarnings(bootMer(m, f, nsim = n, seed = 1))))[["elapsed"]]
cat(as.character(packageVersion("lme4")), took, "\n")
