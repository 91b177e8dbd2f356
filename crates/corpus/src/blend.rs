//! A mixture of sources as one order of documents: so many tokens of each, some of them in several epochs, spread evenly so that
//! every stretch of the order has about the mixture. The order follows from the sizes, the shares and the seed alone. Tokens are
//! copied only when a caller writes them (as [`crate::pack_blend`] does); [`Blend`] reads them where they lie.

use ledger::seed::Seed;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::indexed::{Dataset, Tokens};

/// What a blend takes of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    /// The share of the blend's tokens that was asked for.
    pub share: f64,
    /// Documents in the blend, each repetition counted.
    pub documents: u64,
    /// Tokens in the blend.
    pub tokens: u64,
    /// How often the source's tokens are in it.
    pub epochs: f64,
}

/// Where a document of a blend is: its source and its place there.
pub type Place = (u16, u32);

/// Chooses and orders documents. `sizes` has the tokens of each document of each source, `shares` what part of `tokens` each
/// source is to give. A source's documents come in random order, another in each epoch; none comes a second time before all
/// have come once. What is asked for is met to within half a document.
///
/// # Errors
/// [`Error::Blend`] for shares that are none or a source without tokens that is to give some.
pub fn order(
    sizes: &[&[u64]],
    shares: &[f64],
    tokens: u64,
    seed: Seed,
) -> Result<(Vec<Place>, Vec<Taken>), Error> {
    check(sizes, shares, tokens)?;
    let mut places: Vec<(f64, Place)> = Vec::new();
    let mut taken = Vec::with_capacity(sizes.len());
    for (source, (sizes, &share)) in sizes.iter().zip(shares).enumerate() {
        let wanted = share * tokens as f64;
        let whole: u64 = sizes.iter().sum();
        let (mut given, mut documents, mut epoch) = (0u64, 0u64, 0u64);
        let mut order: Vec<u32> =
            (0..sizes.len() as u32).filter(|&document| sizes[document as usize] > 0).collect();
        'epochs: while (given as f64) < wanted {
            let name = format!("corpus/blend/{source}");
            order.sort_unstable();
            seed.stream(&name, epoch).shuffle(&mut order);
            epoch += 1;
            for &document in &order {
                let size = sizes[document as usize];
                // The last one comes in if that is nearer to what is wanted; the first always does.
                if given > 0 && given as f64 + size as f64 / 2.0 > wanted {
                    break 'epochs;
                }
                // By its middle, so that sources of long and of short documents are spread alike.
                let middle = (given as f64 + size as f64 / 2.0) / wanted;
                places.push((middle, (source as u16, document)));
                given += size;
                documents += 1;
                if given as f64 >= wanted {
                    break 'epochs;
                }
            }
        }
        taken.push(Taken { share, documents, tokens: given, epochs: given as f64 / whole.max(1) as f64 });
    }
    // Places of one source stay in their order; of equal middles the first source's comes first.
    places.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.0.cmp(&b.1.0)));
    Ok((places.into_iter().map(|(_, place)| place).collect(), taken))
}

fn check(sizes: &[&[u64]], shares: &[f64], tokens: u64) -> Result<(), Error> {
    let wrong = |reason: String| Err(Error::Blend { reason });
    let sum: f64 = shares.iter().sum();
    if sizes.len() != shares.len() || sizes.is_empty() || sizes.len() > usize::from(u16::MAX) {
        return wrong(format!("{} sources and {} shares", sizes.len(), shares.len()));
    }
    if !shares.iter().all(|share| (0.0..=1.0).contains(share)) || (sum - 1.0).abs() > 1e-6 {
        return wrong(format!("the shares {shares:?} are not from 0 to 1 with a sum of 1"));
    }
    if tokens == 0 {
        return wrong("no token is asked for".into());
    }
    for (source, (sizes, &share)) in sizes.iter().zip(shares).enumerate() {
        if share > 0.0 && sizes.iter().all(|&size| size == 0) {
            return wrong(format!("source {} is to give {share:.3} of the tokens and has none", source + 1));
        }
        if sizes.len() > u32::MAX as usize {
            return wrong(format!("source {} has more than 2^32 documents", source + 1));
        }
    }
    Ok(())
}

/// Token shards of several sources as one set of documents.
pub struct Blend<'d> {
    sources: Vec<&'d Dataset>,
    order: Vec<Place>,
    taken: Vec<Taken>,
}

impl<'d> Blend<'d> {
    /// A blend of these sources (see [`order`]).
    ///
    /// # Errors
    /// As [`order`].
    pub fn new(
        sources: Vec<&'d Dataset>,
        shares: &[f64],
        tokens: u64,
        seed: Seed,
    ) -> Result<Blend<'d>, Error> {
        let sizes: Vec<&[u64]> = sources.iter().map(|source| source.sizes()).collect();
        let (order, taken) = order(&sizes, shares, tokens, seed)?;
        Ok(Blend { sources, order, taken })
    }

    /// How many documents there are, each repetition counted.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The tokens of a document.
    ///
    /// # Panics
    /// When `document` is not below [`Blend::len`].
    pub fn document(&self, document: usize) -> Tokens<'_> {
        let (source, place) = self.order[document];
        self.sources[usize::from(source)].document(place as usize)
    }

    /// How many tokens a document has.
    ///
    /// # Panics
    /// As [`Blend::document`].
    pub fn size(&self, document: usize) -> u64 {
        let (source, place) = self.order[document];
        self.sources[usize::from(source)].sizes()[place as usize]
    }

    /// What it takes of each source.
    pub fn taken(&self) -> &[Taken] {
        &self.taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(weights: &[f64]) -> Vec<f64> {
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / sum).collect()
    }

    proptest! {
        #[test]
        fn a_blend_keeps_to_its_shares_and_epochs(
            sizes in prop::collection::vec(prop::collection::vec(1..60u64, 1..40), 1..5),
            weights in prop::collection::vec(0.05..1.0f64, 5),
            tokens in 1..6000u64,
            seed in any::<u64>(),
        ) {
            let slices: Vec<&[u64]> = sizes.iter().map(Vec::as_slice).collect();
            let shares = shares(&weights[..sizes.len()]);
            let (places, taken) = order(&slices, &shares, tokens, Seed(seed)).unwrap();
            prop_assert_eq!(&order(&slices, &shares, tokens, Seed(seed)).unwrap().0, &places);
            for (source, sizes) in sizes.iter().enumerate() {
                let mine: Vec<u32> =
                    places.iter().filter(|place| usize::from(place.0) == source).map(|place| place.1).collect();
                let given: u64 = mine.iter().map(|&document| sizes[document as usize]).sum();
                let (wanted, longest) = (shares[source] * tokens as f64, *sizes.iter().max().unwrap() as f64);
                prop_assert_eq!((given, mine.len() as u64), (taken[source].tokens, taken[source].documents));
                prop_assert!((given as f64 - wanted).abs() <= longest / 2.0 + 1e-6 || mine.len() == 1, "{given} of {wanted}");
                // Each epoch has each document once.
                for epoch in mine.chunks(sizes.len()) {
                    let mut seen = epoch.to_vec();
                    seen.sort_unstable();
                    seen.dedup();
                    prop_assert_eq!(seen.len(), epoch.len());
                }
            }
        }
    }

    #[test]
    fn every_stretch_has_about_the_mixture() {
        let sizes: [Vec<u64>; 2] = [vec![10; 1000], vec![40; 300]];
        let slices: Vec<&[u64]> = sizes.iter().map(Vec::as_slice).collect();
        let (places, taken) = order(&slices, &[0.25, 0.75], 40_000, Seed(1)).unwrap();
        assert_eq!((taken[0].tokens, taken[1].tokens), (10_000, 30_000));
        assert_eq!((taken[0].epochs, taken[1].epochs), (1.0, 2.5));
        for stretch in places.chunks(200) {
            let of = |source: u16| stretch.iter().filter(|place| place.0 == source).count();
            // A document of the first source to a quarter of the second's length for a third of its tokens: 4 to 3.
            assert!(of(0).abs_diff(200 * 4 / 7) <= 2 || stretch.len() < 200, "{} {}", of(0), of(1));
        }
        assert_ne!(places, order(&slices, &[0.25, 0.75], 40_000, Seed(2)).unwrap().0);
    }

    #[test]
    fn what_cannot_be_blended_is_refused() {
        let check = |sizes: &[&[u64]], shares: &[f64], tokens: u64, word: &str| {
            let error = order(sizes, shares, tokens, Seed(1)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        };
        check(&[&[1], &[2]], &[0.5], 9, "2 sources and 1 shares");
        check(&[&[1], &[2]], &[0.5, 0.6], 9, "sum of 1");
        check(&[&[1], &[0]], &[0.5, 0.5], 9, "source 2");
        check(&[&[1], &[2]], &[0.5, 0.5], 0, "no token");
        // What gives nothing may have nothing.
        assert_eq!(order(&[&[1], &[]], &[1.0, 0.0], 2, Seed(1)).unwrap().0.len(), 2);
    }
}
