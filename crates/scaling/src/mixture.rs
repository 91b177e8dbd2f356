//! The loss as a function of the mixture that a model was trained on, and the mixture that it is least for.
//!
//! Two laws, of which the one that foretells left-out runs better is taken: linear in the shares, as RegMix's regression
//! (Liu et al. 2024, "RegMix: Data Mixture as Regression for Language Model Pre-training", section 3), and a floor with an
//! exponential of a linear function on it (Ye et al. 2024, "Data Mixing Laws", equation 7; the constant factor is part of the
//! exponent here, as shares sum to 1). The proposal is RegMix's: the mean of the best of many draws from the distribution
//! that the candidates were drawn from, so that it stays where runs were.
//!
//! Legend: `m` runs, `n` sources; a mixture is `n` shares that sum to 1; losses in whatever unit they were given.

use ledger::seed::{Rng, Seed};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::linear::least_squares;

/// A training on a mixture and the loss that it reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The share of each source.
    pub mixture: Vec<f64>,
    /// The loss.
    pub loss: f64,
}

/// How the loss depends on the shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Law {
    /// `Σ bᵢ rᵢ`: `n` parameters.
    Linear,
    /// `c + exp(Σ bᵢ rᵢ)`: `n + 1` parameters.
    Exponential,
}

/// A law with its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// Which one.
    pub law: Law,
    /// `c`; 0 for the linear law.
    pub floor: f64,
    /// `b`, one a source.
    pub coefficients: Vec<f64>,
    /// The root of the mean squared error on the runs, by their degrees of freedom.
    pub error: f64,
    /// The root of the mean squared error on runs that were each left out of a fit of its own.
    pub left_out_error: f64,
    /// Spearman's rank correlation of the losses with what was foretold of each when it was left out.
    pub left_out_correlation: f64,
    /// What was foretold of each run when it was left out.
    pub left_out: Vec<f64>,
}

impl Fit {
    /// What the law says of a mixture.
    pub fn predict(&self, mixture: &[f64]) -> f64 {
        let linear: f64 = self.coefficients.iter().zip(mixture).map(|(b, share)| b * share).sum();
        match self.law {
            Law::Linear => linear,
            Law::Exponential => self.floor + linear.exp(),
        }
    }
}

/// Fits both laws and gives the one whose predictions of left-out runs are better.
///
/// # Errors
/// [`Error::Run`] for mixtures that are none; [`Error::TooFewRuns`] when not even the linear law can be fitted with each run
/// left out.
pub fn fit(runs: &[Run]) -> Result<Fit, Error> {
    let linear = fit_law(runs, Law::Linear)?;
    match fit_law(runs, Law::Exponential) {
        Ok(exponential) if exponential.left_out_error < linear.left_out_error => Ok(exponential),
        _ => Ok(linear),
    }
}

/// Fits a law by least squares.
///
/// # Errors
/// As [`fit`].
pub fn fit_law(runs: &[Run], law: Law) -> Result<Fit, Error> {
    check(runs)?;
    let sources = runs.first().map_or(0, |run| run.mixture.len());
    let parameters = sources + usize::from(law == Law::Exponential);
    let too_few = Error::TooFewRuns { runs: runs.len(), parameters };
    if runs.len() <= parameters {
        return Err(too_few);
    }
    let mut found = solve(runs, law).ok_or(too_few.clone())?;
    let squares: f64 = runs.iter().map(|run| (run.loss - found.predict(&run.mixture)).powi(2)).sum();
    found.error = (squares / (runs.len() - parameters) as f64).sqrt();
    let mut foretold = Vec::with_capacity(runs.len());
    let mut others = Vec::with_capacity(runs.len());
    for left_out in 0..runs.len() {
        others.clear();
        others.extend(
            runs.iter().enumerate().filter(|(index, _)| *index != left_out).map(|(_, run)| run.clone()),
        );
        let of_others = solve(&others, law).ok_or(too_few.clone())?;
        foretold.push(of_others.predict(&runs[left_out].mixture));
    }
    let squares =
        runs.iter().zip(&foretold).map(|(run, foretold)| (run.loss - foretold).powi(2)).sum::<f64>();
    found.left_out_error = (squares / runs.len() as f64).sqrt();
    let losses: Vec<f64> = runs.iter().map(|run| run.loss).collect();
    found.left_out_correlation = rank_correlation(&losses, &foretold);
    found.left_out = foretold;
    Ok(found)
}

fn check(runs: &[Run]) -> Result<(), Error> {
    let sources = runs.first().map_or(0, |run| run.mixture.len());
    for (index, run) in runs.iter().enumerate() {
        let wrong = |reason: &str| Err(Error::Run { run: index, reason: reason.to_owned() });
        if run.mixture.len() != sources || sources == 0 {
            return wrong("its mixture has another number of sources than the first one's, or none");
        }
        let sum: f64 = run.mixture.iter().sum();
        if !run.mixture.iter().all(|share| (0.0..=1.0).contains(share)) || (sum - 1.0).abs() > 1e-6 {
            return wrong("its shares are not from 0 to 1 with a sum of 1");
        }
        if !run.loss.is_finite() {
            return wrong("its loss is no number");
        }
    }
    Ok(())
}

fn solve(runs: &[Run], law: Law) -> Option<Fit> {
    let rows: Vec<Vec<f64>> = runs.iter().map(|run| run.mixture.clone()).collect();
    let losses: Vec<f64> = runs.iter().map(|run| run.loss).collect();
    let fit = |floor: f64, coefficients: Vec<f64>| Fit {
        law,
        floor,
        coefficients,
        error: 0.0,
        left_out_error: 0.0,
        left_out_correlation: 0.0,
        left_out: Vec::new(),
    };
    if law == Law::Linear {
        return Some(fit(0.0, least_squares(&rows, &losses, 1e-12)?));
    }
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    let spread = losses.iter().copied().fold(f64::NEG_INFINITY, f64::max) - least;
    if spread <= 0.0 {
        return None;
    }
    // For a floor below all losses the rest is linear in its logarithm; from several floors the descent goes on.
    let mut best: Option<(f64, Fit)> = None;
    for below in [0.02, 0.1, 0.3, 1.0, 3.0, 10.0] {
        let floor = least - below * spread;
        let logarithms: Vec<f64> = losses.iter().map(|loss| (loss - floor).ln()).collect();
        let Some(coefficients) = least_squares(&rows, &logarithms, 1e-12) else { continue };
        let (squares, found) = descend(&rows, &losses, fit(floor, coefficients));
        if squares.is_finite() && best.as_ref().is_none_or(|(least, _)| squares < *least) {
            best = Some((squares, found));
        }
    }
    best.map(|(_, fit)| fit)
}

fn squares(rows: &[Vec<f64>], losses: &[f64], fit: &Fit) -> f64 {
    rows.iter().zip(losses).map(|(row, loss)| (loss - fit.predict(row)).powi(2)).sum()
}

/// Levenberg and Marquardt's descent of the exponential law; gives the sum of squares that it ends with.
fn descend(rows: &[Vec<f64>], losses: &[f64], mut fit: Fit) -> (f64, Fit) {
    let mut now = squares(rows, losses, &fit);
    let mut damping = 1e-3;
    for _ in 0..200 {
        let derivatives: Vec<Vec<f64>> = rows
            .iter()
            .map(|row| {
                let exponential = fit.predict(row) - fit.floor;
                std::iter::once(1.0).chain(row.iter().map(|share| exponential * share)).collect()
            })
            .collect();
        let residuals: Vec<f64> =
            rows.iter().zip(losses).map(|(row, loss)| loss - fit.predict(row)).collect();
        let step = least_squares(&derivatives, &residuals, damping);
        let next = step.map(|step| {
            let coefficients = fit.coefficients.iter().zip(&step[1..]).map(|(b, step)| b + step).collect();
            Fit { floor: fit.floor + step[0], coefficients, ..fit.clone() }
        });
        match next.map(|next| (squares(rows, losses, &next), next)) {
            Some((less, next)) if less < now => {
                let gain = (now - less) / now.max(f64::MIN_POSITIVE);
                (now, fit, damping) = (less, next, (damping / 3.0).max(1e-12));
                if gain < 1e-12 {
                    break;
                }
            }
            _ if damping > 1e8 => break,
            _ => damping *= 4.0,
        }
    }
    (now, fit)
}

/// Spearman's: Pearson's correlation of the ranks, of equal values their mean rank. 0 where one side is all alike.
pub fn rank_correlation(left: &[f64], right: &[f64]) -> f64 {
    let (left, right) = (ranks(left), ranks(right));
    let mean = (left.len() as f64 + 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let scale = (product(&left, &left) * product(&right, &right)).sqrt();
    if scale > 0.0 { product(&left, &right) / scale } else { 0.0 }
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let tied = order[start..].iter().take_while(|&&index| values[index] == values[order[start]]).count();
        for &index in &order[start..start + tied] {
            ranks[index] = start as f64 + (tied as f64 + 1.0) / 2.0;
        }
        start += tied;
    }
    ranks
}

/// What candidates and proposals are drawn from.
#[derive(Debug, Clone, PartialEq)]
pub struct Prior {
    /// The shares that draws lie around: those of the sources' tokens.
    pub natural: Vec<f64>,
    /// How close to them: the parameters of Dirichlet's distribution are these shares times this.
    pub concentration: f64,
    /// The most of each source, which its tokens and epochs allow.
    pub most: Vec<f64>,
}

/// Draws that are refused, one after another, before there is nothing to draw.
const PATIENCE: usize = 100_000;

impl Prior {
    /// Checks the shares.
    ///
    /// # Errors
    /// [`Error::Settings`].
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |reason: String| Err(Error::Settings { reason });
        let sum: f64 = self.natural.iter().sum();
        if self.natural.len() < 2
            || !self.natural.iter().all(|&share| share > 0.0)
            || (sum - 1.0).abs() > 1e-6
        {
            return wrong("a mixture needs two sources or more, with shares above 0 that sum to 1".into());
        }
        if !(self.concentration > 0.0 && self.concentration.is_finite()) {
            return wrong(format!("a concentration of {} is not above 0", self.concentration));
        }
        let most: f64 = self.most.iter().map(|&most| most.clamp(0.0, 1.0)).sum();
        if self.most.len() != self.natural.len() || most < 1.0 - 1e-9 {
            return wrong(format!(
                "the sources allow {most:.3} of what is asked for: more epochs, or fewer tokens"
            ));
        }
        Ok(())
    }

    /// A mixture from Dirichlet's distribution that keeps to the most of each source.
    ///
    /// # Errors
    /// [`Error::Settings`] when hardly any draw does.
    pub fn draw(&self, rng: &mut Rng) -> Result<Vec<f64>, Error> {
        for _ in 0..PATIENCE {
            let shape = self.natural.iter().map(|share| share * self.concentration);
            let mut mixture: Vec<f64> = shape.map(|shape| gamma(shape, rng)).collect();
            let sum: f64 = mixture.iter().sum();
            // Shapes near 0 may all round to it.
            if sum == 0.0 {
                continue;
            }
            mixture.iter_mut().for_each(|share| *share /= sum);
            if mixture.iter().zip(&self.most).all(|(share, most)| share <= most) {
                return Ok(mixture);
            }
        }
        Err(Error::Settings {
            reason: "hardly any mixture keeps to what the sources have: more epochs, or fewer tokens".into(),
        })
    }

    /// The mixtures to train on: the natural one, if the sources allow it, then draws.
    ///
    /// # Errors
    /// As [`Prior::validate`] and [`Prior::draw`].
    pub fn candidates(&self, count: usize, seed: Seed) -> Result<Vec<Vec<f64>>, Error> {
        self.validate()?;
        let natural = self.natural.iter().zip(&self.most).all(|(share, most)| share <= most);
        let first = natural.then(|| self.natural.clone()).into_iter().map(Ok);
        let draws = (0..count as u64).map(|index| self.draw(&mut seed.stream("scaling/candidate", index)));
        first.chain(draws).take(count).collect()
    }
}

/// A number from the gamma distribution of this shape and scale 1 (Marsaglia & Tsang 2000).
fn gamma(shape: f64, rng: &mut Rng) -> f64 {
    if shape < 1.0 {
        let above = gamma(shape + 1.0, rng);
        return above * (1.0 - rng.uniform()).powf(1.0 / shape);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = f64::from(rng.normal());
        let v = (1.0 + c * x).powi(3);
        let u = 1.0 - rng.uniform();
        if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

/// How a proposal is searched for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Search {
    /// Mixtures drawn.
    pub draws: usize,
    /// The best of them whose mean is proposed.
    pub best: usize,
    /// Laws fitted to losses of other noise, for the interval.
    pub resamples: usize,
}

impl Default for Search {
    fn default() -> Self {
        Search { draws: 100_000, best: 128, resamples: 400 }
    }
}

/// A mixture and what is foretold of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// The share of each source.
    pub mixture: Vec<f64>,
    /// The loss that the law foretells.
    pub loss: f64,
    /// The lower end of the interval in which a training on it is foretold to end, in nine of ten cases.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// What is foretold of the natural mixture.
    pub natural_loss: f64,
    /// The share of resampled laws that find the proposal better than the natural mixture.
    pub better: f64,
}

/// Proposes a mixture: the mean of the best draws by `fit`, with an interval from laws refitted to resampled residuals (Efron
/// 1979), each of its foretold losses with a residual of a run to come.
///
/// # Errors
/// As [`fit`], [`Prior::validate`] and [`Prior::draw`].
pub fn propose(
    runs: &[Run],
    fit: &Fit,
    prior: &Prior,
    search: Search,
    seed: Seed,
) -> Result<Proposal, Error> {
    prior.validate()?;
    check(runs)?;
    let mut rng = seed.stream("scaling/search", 0);
    let mut drawn: Vec<(f64, Vec<f64>)> = Vec::with_capacity(2 * search.best);
    let by_loss = |a: &(f64, Vec<f64>), b: &(f64, Vec<f64>)| a.0.total_cmp(&b.0);
    for _ in 0..search.draws.max(search.best).max(1) {
        let mixture = prior.draw(&mut rng)?;
        drawn.push((fit.predict(&mixture), mixture));
        if drawn.len() == 2 * search.best.max(1) {
            drawn.sort_by(by_loss);
            drawn.truncate(search.best.max(1));
        }
    }
    drawn.sort_by(by_loss);
    drawn.truncate(search.best.max(1));
    let mean =
        |source: usize| drawn.iter().map(|(_, mixture)| mixture[source]).sum::<f64>() / drawn.len() as f64;
    let mut mixture: Vec<f64> = (0..prior.natural.len()).map(mean).collect();
    let sum: f64 = mixture.iter().sum();
    mixture.iter_mut().for_each(|share| *share /= sum);

    // Residuals of a fit are smaller than the noise, by the parameters that it spent.
    let parameters = prior.natural.len() + usize::from(fit.law == Law::Exponential);
    let widen = (runs.len() as f64 / (runs.len().saturating_sub(parameters)).max(1) as f64).sqrt();
    let residuals: Vec<f64> = runs.iter().map(|run| (run.loss - fit.predict(&run.mixture)) * widen).collect();
    let (mut losses, mut better, mut refitted) = (Vec::new(), 0usize, 0usize);
    for resample in 0..search.resamples {
        let mut rng = seed.stream("scaling/resample", resample as u64);
        let noisy: Vec<Run> = runs
            .iter()
            .map(|run| Run {
                mixture: run.mixture.clone(),
                loss: fit.predict(&run.mixture) + rng.pick(&residuals),
            })
            .collect();
        let Some(other) = solve(&noisy, fit.law) else { continue };
        refitted += 1;
        let loss = other.predict(&mixture);
        better += usize::from(loss < other.predict(&prior.natural));
        losses.push(loss + rng.pick(&residuals));
    }
    losses.sort_by(f64::total_cmp);
    let loss = fit.predict(&mixture);
    let quantile = |share: f64| {
        losses.get(((losses.len() as f64 - 1.0) * share).round() as usize).copied().unwrap_or(loss)
    };
    Ok(Proposal {
        loss,
        low: quantile(0.05),
        high: quantile(0.95),
        natural_loss: fit.predict(&prior.natural),
        better: better as f64 / refitted.max(1) as f64,
        mixture,
    })
}

#[cfg(test)]
mod tests;
