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
  MASS = c(coop = "coop"),
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
keep(from("mlmRev", "Chem97")[c("lea", "school", "score", "gender", "age", "gcsescore", "gcsecnt")],
  name = "chem97", compress = TRUE
)
keep(from("mlmRev", "egsingle"), name = "egsingle", compress = TRUE)
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
