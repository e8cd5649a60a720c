//! Percentiles of a few measured figures. Of many, such as the latencies of frames, they are
//! HdrHistogram's.

/// The nearest-rank percentile: the least of the figures that so large a share of them does not
/// exceed. `share` is from 0 (the least figure) to 1 (the greatest), `ascending` is sorted. None of
/// no figures.
///
/// ```
/// # use baton::sla::percentile;
/// let figures = [10, 20, 30, 40];
/// assert_eq!([0.0, 0.5, 0.51, 1.0].map(|share| percentile(&figures, share)), [10, 20, 30, 40].map(Some));
/// ```
pub fn percentile<T: Copy>(ascending: &[T], share: f64) -> Option<T> {
    let rank = (share * ascending.len() as f64).ceil() as usize;
    ascending.get(rank.max(1) - 1).copied()
}

/// The median of figures in any order; not a number of none.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    percentile(&figures, 0.5).unwrap_or(f64::NAN)
}
