# Export every bundled and test data set from the R package it is published in:
#     Rscript tests/data/export.R            (from anywhere; overwrites the CSV files)
# Column names are R's with dots turned into underscores, except MathAchieve, whose columns get
# the names the school literature uses. Factors are written as labels; row names are dropped.
# Files of more than about 100 kB are compressed with gzip (-9, no time stamp).

here <- dirname(normalizePath(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1])))
bundled <- file.path(here, "..", "..", "sm_multilevel", "datasets")

from <- function(package, name) {
  holder <- new.env()
  data(list = name, package = package, envir = holder)
  frame <- as.data.frame(holder[[name]])
  class(frame) <- "data.frame"
  frame
}

save_csv <- function(frame, folder, name, compress = FALSE) {
  names(frame) <- gsub(".", "_", names(frame), fixed = TRUE)
  path <- file.path(folder, paste0(name, ".csv"))
  write.csv(frame, path, row.names = FALSE, quote = FALSE, eol = "\n")
  if (compress) system2("gzip", c("-9nf", shQuote(path)))
}

# ---------------------------------------------------------------- bundled with the package
ship <- function(...) save_csv(..., folder = bundled)
ship(from("lme4", "sleepstudy"), name = "sleepstudy")
ship(from("lme4", "Penicillin"), name = "penicillin")
ship(from("lme4", "Pastes"), name = "pastes")
ship(from("lme4", "cbpp"), name = "cbpp")
ship(from("lme4", "InstEval"), name = "insteval", compress = TRUE)
ship(from("lme4", "VerbAgg"), name = "verbagg", compress = TRUE)
ship(from("mlmRev", "Contraception"), name = "contraception")
ship(from("MASS", "epil"), name = "epil")
ship(from("glmmTMB", "Owls"), name = "owls")
ship(from("ordinal", "wine"), name = "wine")
ship(from("geepack", "dietox"), name = "dietox")
ship(from("mlmRev", "Mmmec"), name = "mmmec")
ship(from("HSAUR3", "toenail"), name = "toenail")
ship(from("mlmRev", "Chem97")[c("lea", "school", "score", "gender", "age", "gcsescore", "gcsecnt")],
  name = "chem97", compress = TRUE
)
awards <- from("clubSandwich", "AchievementAwardsRCT")[c(
  "school_id", "school_type", "pair", "treated", "year", "sex", "siblings", "immigrant", "father_ed", "mother_ed",
  "Bagrut_status", "lagscore", "qrtl"
)]
names(awards)[names(awards) == "school_id"] <- "school"
names(awards)[names(awards) == "Bagrut_status"] <- "bagrut"
names(awards)[names(awards) == "qrtl"] <- "quartile"
ship(awards, name = "achievement_awards", compress = TRUE)

pupils <- from("nlme", "MathAchieve")
schools <- from("nlme", "MathAchSchool")
at <- match(as.character(pupils$School), as.character(schools$School))
ship(data.frame(
  school = pupils$School, minority = pupils$Minority, sex = pupils$Sex, ses = pupils$SES,
  mathach = pupils$MathAch, meanses = pupils$MEANSES, size = schools$Size[at],
  sector = schools$Sector[at], pracad = schools$PRACAD[at], disclim = schools$DISCLIM[at],
  himinty = schools$HIMINTY[at]
), name = "mathachieve", compress = TRUE)

# ---------------------------------------------------------------- for the tests only
keep <- function(...) save_csv(..., folder = here)
plain <- list(
  lme4 = c(dyestuff = "Dyestuff", dyestuff2 = "Dyestuff2", cake = "cake", arabidopsis = "Arabidopsis"),
  nlme = c(
    oxboys = "Oxboys", orthodont = "Orthodont", machines = "Machines", oats = "Oats", rail = "Rail",
    ergostool = "ergoStool", pixel = "Pixel", wafer = "Wafer", oxide = "Oxide", assay = "Assay",
    bodyweight = "BodyWeight"
  ),
  MASS = c(coop = "coop", sitka = "Sitka"),
  datasets = c(chickweight = "ChickWeight"),
  lmerTest = c(ham = "ham", tvbo = "TVbo")
)
for (package in names(plain)) {
  for (name in names(plain[[package]])) keep(from(package, plain[[package]][[name]]), name = name)
}
alfalfa <- from("nlme", "Alfalfa")
levels(alfalfa$Date)[levels(alfalfa$Date) == "None"] <- "uncut" # pandas reads None as a missing value
keep(alfalfa, name = "alfalfa")

keep(from("mlmRev", "Exam")[c("school", "normexam", "standLRT", "sex", "type", "schavg")], name = "exam", compress = TRUE)
keep(from("mlmRev", "egsingle"), name = "egsingle", compress = TRUE)
keep(from("plm", "Produc"), name = "produc")
keep(from("mlmRev", "ScotsSec"), name = "scotssec")
keep(from("mlmRev", "Early"), name = "early")
keep(from("mlmRev", "bdf")[c(
  "schoolNR", "langPOST", "IQ.ver.cen", "avg.IQ.ver.cen", "sex", "ses", "denomina"
)], name = "bdf", compress = TRUE)
keep(from("lmerTest", "carrots")[c("Consumer", "Product", "Preference", "sens1", "sens2", "Homesize", "Age")],
  name = "carrots"
)

star <- from("mlmRev", "star")[c("id", "sch", "tch", "yrs", "cltype", "sx", "math")]
star <- star[complete.cases(star), ]
star$id <- as.integer(factor(star$id)) # 1, 2, ...: the original numbers only cost bytes
keep(star, name = "star", compress = TRUE)

# sleepstudy with made-up precision weights and offset, both deterministic
sleep <- from("lme4", "sleepstudy")
row <- seq_len(nrow(sleep))
sleep$w <- 0.5 + ((7 * row) %% 11) / 5
sleep$off <- round(20 * sin(row), 2)
keep(sleep, name = "sleepstudy_weights")

# ---------------------------------------------------------------- generalised models
keep(from("lme4", "grouseticks"), name = "grouseticks")
keep(from("mlmRev", "guImmun"), name = "guimmun", compress = TRUE)
keep(from("mlmRev", "guPrenat")[c("mom", "cluster", "prenat", "childAge", "motherAge", "indig", "pcInd81")],
  name = "guprenat", compress = TRUE
)
keep(from("HSAUR3", "respiratory"), name = "respiratory")
keep(na.omit(from("HSAUR3", "schizophrenia2")), name = "schizophrenia2")
keep(from("MASS", "bacteria"), name = "bacteria")
quine <- from("MASS", "quine")
quine$class <- paste(quine$Eth, quine$Sex, quine$Age, quine$Lrn, sep = ".")
keep(quine, name = "quine")
keep(from("glmmTMB", "Salamanders"), name = "salamanders")
keep(from("ordinal", "soup")[c("RESP", "PROD", "PRODID", "SURENESS", "DAY", "SOUPFREQ", "GENDER")], name = "soup")

# Simulated: positive costs (Gamma) and waiting times (inverse Gaussian) of patients in 40 hospitals of 2 to 30 patients,
# labels out of order and rows shuffled; counts with three crossed factors.
set.seed(20240611)
hospitals <- 40
label <- paste0("H", sample(100:999, hospitals))
size <- sample(2:30, hospitals, replace = TRUE)
at <- sample(rep(seq_len(hospitals), size))
n <- length(at)
severity <- round(rnorm(n), 3)
ward <- ifelse(runif(n) < 0.4, "surgery", "medicine")
effect <- cbind(rnorm(hospitals, sd = 0.5), rnorm(hospitals, sd = 0.2))
effect[, 2] <- effect[, 2] + 0.2 * effect[, 1]
eta <- 1.2 + 0.4 * severity - 0.3 * (ward == "surgery") + effect[at, 1] + effect[at, 2] * severity
cost <- rgamma(n, shape = 2.5, scale = exp(eta) / 2.5)
wait <- statmod::rinvgauss(n, mean = exp(0.5 + 0.3 * severity + effect[at, 1]), dispersion = 0.4)
keep(data.frame(hospital = label[at], severity, ward, cost = signif(cost, 6), wait = signif(wait, 6)), name = "hospital_costs")

set.seed(20240612)
n <- 600
site <- sample(25, n, replace = TRUE)
observer <- sample(12, n, replace = TRUE)
day <- sample(30, n, replace = TRUE)
cover <- round(runif(n, -1, 1), 3)
hours <- sample(c(0.5, 1, 2), n, replace = TRUE)
eta <- log(hours) + 0.4 + 0.8 * cover + rnorm(25, sd = 0.7)[site] + rnorm(12, sd = 0.3)[observer] + rnorm(30, sd = 0.4)[day]
keep(data.frame(
  site = paste0("s", site), observer = LETTERS[observer], day = day, cover = cover, hours = hours, count = rpois(n, exp(eta))
), name = "counts_crossed")
