//! Measuring several things in turn, so that what the machine does meanwhile happens to all of them.

/// A measurement that can be repeated.
pub type Measure<'a, T = f64> = Box<dyn FnMut() -> T + 'a>;

/// Each in turn, then all again, so many times; the samples of each. Every other turn goes backwards, so that nobody
/// always follows the same one. The first turn warms up and is not counted.
pub fn in_turn<T>(times: usize, measures: &mut [Measure<'_, T>]) -> Vec<Vec<T>> {
    let mut samples: Vec<_> = measures.iter().map(|_| Vec::with_capacity(times)).collect();
    for turn in 0..=times {
        let forwards = turn % 2 == 0;
        for nth in 0..measures.len() {
            let nth = if forwards {
                nth
            } else {
                measures.len() - 1 - nth
            };
            let sample = measures[nth]();
            if turn > 0 {
                samples[nth].push(sample);
            }
        }
    }
    samples
}

/// The quotients of samples taken in the same turn.
pub fn ratios<'a>(of: &'a [f64], to: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    of.iter().zip(to).map(|(of, to)| of / to)
}
