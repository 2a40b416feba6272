//! Who still owes an acknowledgement: a set of members that only shrinks, give or take one that registers meanwhile.

use super::members::MemberId;

/// A set of member numbers. Adding, removing and asking take constant time, walking it the time of what is in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Owing {
    members: Vec<MemberId>,
    /// By member: its place in `members`, plus one; 0 for none.
    places: Vec<u32>,
}

impl Owing {
    /// The members of `members`, whose numbers are below `limit`.
    pub(super) fn of(limit: usize, members: impl Iterator<Item = MemberId>) -> Self {
        let mut set = Self { members: Vec::new(), places: vec![0; limit] };
        members.for_each(|member| set.insert(member));
        set
    }

    pub(super) fn insert(&mut self, member: MemberId) {
        let index = member as usize;
        if index >= self.places.len() {
            self.places.resize(index + 1, 0);
        }
        if self.places[index] == 0 {
            self.members.push(member);
            self.places[index] = self.members.len() as u32;
        }
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, member: MemberId) -> bool {
        let Some(place) = self.places.get_mut(member as usize).filter(|place| **place > 0) else {
            return false;
        };
        let place = std::mem::take(place) as usize - 1;
        self.members.swap_remove(place);
        if let Some(&moved) = self.members.get(place) {
            self.places[moved as usize] = place as u32 + 1;
        }
        true
    }

    pub(super) fn contains(&self, member: MemberId) -> bool {
        self.places.get(member as usize).is_some_and(|place| *place > 0)
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = MemberId> {
        self.members.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn behaves_like_a_set(start in prop::collection::btree_set(0_u32..64, 0..64), steps in prop::collection::vec((any::<bool>(), 0_u32..80), 0..200)) {
            let mut model = start.clone();
            let mut owing = Owing::of(64, start.into_iter());
            for (insert, member) in steps {
                if insert {
                    owing.insert(member);
                    model.insert(member);
                } else {
                    prop_assert_eq!(owing.remove(member), model.remove(&member));
                }
                prop_assert_eq!(owing.len(), model.len());
                prop_assert_eq!(owing.contains(member), model.contains(&member));
            }
            prop_assert_eq!(owing.iter().collect::<std::collections::BTreeSet<_>>(), model);
        }
    }
}
