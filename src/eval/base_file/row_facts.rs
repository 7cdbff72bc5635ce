//! What is known exactly about a distribution that is stored inexactly.
//!
//! Let p be the base's distribution, p' the stored one, q that of a subject, and δ = ln p − ln q. The divergence
//! Σ p·δ is estimated as Σ p'·(ln p' − ln q) − Σ p'·(ln p' − ln p) = Σ p'·δ; the second sum is stored. The error is
//! Σ (p' − p)·δ: its mean is near 0, because p' − p and δ are unrelated. By Cauchy and Schwarz it is at most
//! χ·√(Σ p·δ²), with χ² = Σ (p' − p)²/p. With ε = ln p' − ln p and Minkowski, √(Σ p·δ²) is at most
//! √(e^max|ε| · Σ p'·(ln p' − ln q)²) + √(Σ p·ε²).

use super::super::token_score::exp;

/// Bytes of the facts of a row in the file.
pub(super) const BYTES: usize = 24;

/// The facts of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RowFacts {
    /// Negative log-likelihood of the scored token, exact.
    pub(crate) nll: f32,
    /// The most likely token, exact.
    pub(crate) top: u32,
    /// Σ p'·(ln p' − ln p).
    pub(crate) correction: f32,
    /// √(Σ (p' − p)²/p).
    pub(crate) chi: f32,
    /// √(Σ p·ε²).
    pub(crate) spread: f32,
    /// Largest |ε|.
    pub(crate) largest: f32,
}

impl RowFacts {
    /// Compares the logarithms of probabilities: `exact` and `stored`.
    pub(crate) fn new(nll: f32, top: usize, exact: &[f32], stored: &[f32]) -> Self {
        let (mut correction, mut chi, mut spread, mut largest) = (0.0_f64, 0.0_f64, 0.0_f64, 0.0_f32);
        for (exact, stored) in exact.iter().zip(stored) {
            let epsilon = stored - exact;
            let (p, p_stored) = (f64::from(exp(*exact)), f64::from(exp(*stored)));
            correction += p_stored * f64::from(epsilon);
            chi += p * f64::from(epsilon).exp_m1().powi(2);
            spread += p * f64::from(epsilon).powi(2);
            largest = largest.max(epsilon.abs());
        }
        Self {
            nll,
            top: u32::try_from(top).unwrap_or(u32::MAX),
            correction: correction as f32,
            chi: chi.sqrt() as f32,
            spread: spread.sqrt() as f32,
            largest,
        }
    }

    /// Returns a bound on the error of the divergence of a subject; `squares` is Σ p'·(ln p' − ln q)².
    pub(crate) fn bound(&self, squares: f64) -> f64 {
        let whole = f64::from(self.largest.min(50.0)).exp() * squares.max(0.0);
        f64::from(self.chi) * (whole.sqrt() + f64::from(self.spread))
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.nll.to_le_bytes());
        out.extend(self.top.to_le_bytes());
        for value in [self.correction, self.chi, self.spread, self.largest] {
            out.extend(value.to_le_bytes());
        }
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let field = |i: usize| <[u8; 4]>::try_from(bytes.get(4 * i..4 * i + 4)?).ok();
        let float = |i: usize| field(i).map(f32::from_le_bytes);
        Some(Self {
            nll: float(0)?,
            top: u32::from_le_bytes(field(1)?),
            correction: float(2)?,
            chi: float(3)?,
            spread: float(4)?,
            largest: float(5)?,
        })
    }
}
