# A second opinion on lme4: the profiled deviance from its definition,
#   V = I + Z L(theta) L(theta)' Z',   -2 log-likelihood = m (1 + log(2 pi r2 / m)) + log|V| [+ log|X' V^-1 X|],
# with dense matrices (one for each independent block of rows), and Newton's method on it.

# What the objective needs. `template` gives L: rows i, columns j and `index` into expand(theta).
dense_problem <- function(y, X, Zt, template, flist, reml, weights = NULL, expand = identity) {
  n <- length(y)
  w <- if (is.null(weights)) rep(1, n) else weights
  Z <- as(Matrix::t(Zt), "TsparseMatrix")
  blocks <- lapply(split(seq_len(n), outer_factor(flist, n)), function(rows) {
    here <- (Z@i + 1L) %in% rows
    cols <- unique(Z@j[here] + 1L)
    # A column of zeros here (one sex only in a school) still lends its u to the rows of L below it.
    cols <- sort(unique(c(cols, template$j[template$i %in% cols])))
    dense <- matrix(0, length(rows), length(cols))
    dense[cbind(match(Z@i[here] + 1L, rows), match(Z@j[here] + 1L, cols))] <- Z@x[here]
    s <- sqrt(w[rows])
    M <- cbind(X[rows, , drop = FALSE], y[rows]) * s
    mine <- template$i %in% cols & template$j %in% cols
    block <- list(
      Z = dense * s, M = M, q = length(cols), index = template$index[mine],
      at = cbind(match(template$i[mine], cols), match(template$j[mine], cols))
    )
    if (block$q < length(rows) && length(rows) > 40) block$cross <- crossprod(cbind(block$Z, M))
    block
  })
  list(
    blocks = blocks, n = n, p = ncol(X), reml = reml, expand = expand, logw = sum(log(w)),
    y = y, X = X, w = w, Zt = Zt, template = template
  )
}

# Rows are independent given the coarsest factor, if the others are nested in it.
outer_factor <- function(flist, n) {
  for (candidate in flist[order(sapply(flist, nlevels))]) {
    if (all(sapply(flist, lme4::isNested, f2 = candidate))) return(droplevels(candidate))
  }
  factor(rep(1, n))
}

dense_deviance <- function(problem, theta) dense_evaluation(problem, theta)$deviance

dense_evaluation <- function(problem, theta) {
  values <- problem$expand(theta)
  p <- problem$p
  total <- matrix(0, p + 1, p + 1)
  logdet <- 0
  for (b in problem$blocks) {
    L <- matrix(0, b$q, b$q)
    L[b$at] <- values[b$index]
    if (is.null(b$cross)) {
      R <- chol(diag(nrow(b$Z)) + tcrossprod(b$Z %*% L))
      total <- total + crossprod(backsolve(R, b$M, transpose = TRUE))
    } else {
      zz <- seq_len(b$q)
      R <- chol(diag(b$q) + crossprod(L, b$cross[zz, zz]) %*% L)
      fitted <- backsolve(R, crossprod(L, b$cross[zz, -zz, drop = FALSE]), transpose = TRUE)
      total <- total + b$cross[-zz, -zz] - crossprod(fitted)
    }
    logdet <- logdet + 2 * sum(log(diag(R)))
  }
  R <- chol(total)
  m <- problem$n - problem$reml * p
  fixed <- if (problem$reml) 2 * sum(log(diag(R)[seq_len(p)])) else 0
  sigma <- R[p + 1, p + 1] / sqrt(m)
  list(deviance = m * (1 + log(2 * pi * sigma^2)) + logdet - problem$logw + fixed, R = R, sigma = sigma)
}

# Coefficients, their standard errors and sigma.
dense_fixed <- function(problem, theta) {
  at <- dense_evaluation(problem, theta)
  X <- at$R[seq_len(problem$p), seq_len(problem$p), drop = FALSE]
  list(
    fixef = as.vector(backsolve(X, at$R[seq_len(problem$p), problem$p + 1])),
    se = at$sigma * sqrt(diag(chol2inv(X))), sigma = at$sigma
  )
}

# Central differences at a step large enough for 1e-12 of noise, extrapolated once (error of order h^4).
slope <- function(f, x, h = 1e-3) {
  h <- h * pmax(abs(x), 0.1)
  sapply(seq_along(x), function(k) {
    at <- function(step) { z <- x; z[k] <- z[k] + step * h[k]; f(z) }
    (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h[k])
  })
}
curvature <- function(f, x, h = 2e-3) {
  h <- h * pmax(abs(x), 0.1)
  k <- length(x)
  H <- matrix(0, k, k)
  at <- function(i, a, j, b) { z <- x; z[i] <- z[i] + a * h[i]; z[j] <- z[j] + b * h[j]; f(z) }
  for (i in seq_len(k)) for (j in seq_len(i)) {
    H[i, j] <- H[j, i] <- if (i == j) {
      (at(i, 1, i, 0) - 2 * f(x) + at(i, -1, i, 0)) / h[i]^2
    } else {
      (at(i, 1, j, 1) - at(i, 1, j, -1) - at(i, -1, j, 1) + at(i, -1, j, -1)) / (4 * h[i] * h[j])
    }
  }
  H
}

# Newton steps (curvature made positive, step halved until f does not rise).
newton <- function(f, x, steps = 8) {
  value <- f(x)
  for (step in seq_len(steps)) {
    g <- slope(f, x)
    e <- eigen(curvature(f, x), symmetric = TRUE)
    d <- pmax(abs(e$values), 1e-8 * max(abs(e$values), 1e-8))
    move <- -as.vector(e$vectors %*% (crossprod(e$vectors, g) / d))
    scale <- 1
    repeat {
      trial <- f(x + scale * move)
      if (is.finite(trial) && trial <= value + 1e-13 * abs(value)) break
      scale <- scale / 4
      if (scale < 1e-4) return(x)
    }
    x <- x + scale * move
    done <- abs(value - trial) < 1e-13 * abs(value) && max(abs(move)) < 1e-7 * max(abs(x), 1)
    value <- trial
    if (done) break
  }
  x
}

# The dense optimum: from each start by quasi-Newton, then Newton.
dense_optimum <- function(problem, starts) {
  f <- function(theta) tryCatch(dense_deviance(problem, theta), error = function(e) Inf)
  best <- NULL
  for (start in starts) {
    x <- nlminb(start, f, gradient = function(x) slope(f, x), control = list(rel.tol = 1e-14, iter.max = 200))$par
    if (is.null(best) || f(x) < f(best)) best <- x
  }
  best <- newton(f, best)
  list(theta = best, deviance = f(best), gradient = max(abs(slope(f, best))))
}

# All that a fit reports, for small data and structures that lme4 1.1 lacks.
dense_solution <- function(problem, theta) {
  q <- nrow(problem$Zt)
  values <- problem$expand(theta)
  L <- matrix(0, q, q)
  L[cbind(problem$template$i, problem$template$j)] <- values[problem$template$index]
  Z <- as.matrix(Matrix::t(problem$Zt))
  Vinv <- solve(diag(1 / problem$w) + tcrossprod(Z %*% L))
  information <- crossprod(problem$X, Vinv %*% problem$X)
  beta <- solve(information, crossprod(problem$X, Vinv %*% problem$y))
  r <- problem$y - problem$X %*% beta
  sigma2 <- sum(r * (Vinv %*% r)) / (problem$n - problem$reml * problem$p)
  G <- tcrossprod(L)
  gain <- G %*% t(Z) %*% Vinv
  b <- as.vector(gain %*% r)
  list(
    beta = as.vector(beta), vcov = sigma2 * solve(information), sigma = sqrt(sigma2), b = b,
    sd = sqrt(sigma2 * pmax(diag(G - gain %*% Z %*% G), 0)), cov = sigma2 * G,
    fitted = as.vector(problem$X %*% beta + Z %*% b), deviance = dense_deviance(problem, theta)
  )
}
