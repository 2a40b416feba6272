//! A set of members, as bits: ten thousand of them are looked through in a hundred steps.

/// A set of small numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    pub(crate) fn insert(&mut self, number: usize) {
        let word = number / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    pub(crate) fn remove(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word &= !(1 << (number % 64));
        }
    }

    pub(crate) fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(crate) fn first(&self) -> Option<usize> {
        self.0.iter().position(|word| *word != 0).map(|at| at * 64 + self.0[at].trailing_zeros() as usize)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        const NOTHING: &Bits = &Bits(Vec::new());
        self.without(NOTHING)
    }

    /// Numbers below `limit` that are not here.
    pub(crate) fn missing(&self, limit: usize) -> Vec<usize> {
        (0..limit).filter(|number| !self.contains(*number)).collect()
    }

    /// What is here and not in `other`.
    pub(crate) fn without<'a>(&'a self, other: &'a Bits) -> impl Iterator<Item = usize> + 'a {
        self.0.iter().enumerate().flat_map(move |(at, word)| {
            let mut left = word & !other.0.get(at).copied().unwrap_or_default();
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(at * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_one_set_and_not_in_the_other() {
        let (mut all, mut some) = (Bits::default(), Bits::default());
        [3, 63, 64, 200].into_iter().for_each(|number| all.insert(number));
        [63, 64].into_iter().for_each(|number| some.insert(number));
        some.remove(64);
        assert_eq!(all.without(&some).collect::<Vec<_>>(), [3, 64, 200]);
        assert_eq!((all.first(), some.contains(63), some.contains(900)), (Some(3), true, false));
        some.remove(63);
        assert!(some.is_empty());
    }
}
