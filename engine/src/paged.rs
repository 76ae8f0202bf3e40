//! A vector in pages: it grows without moving what is in it, so no command waits for a copy of millions of records, and no
//! record that is as large as a cache line straddles two.

use std::ops::{Index, IndexMut};

use crate::prefetch::prefetch;

/// Records on a page.
const PAGE: usize = 512;

/// The vector. Records are known by 32 bits and are never taken out.
#[derive(Clone, Debug)]
pub struct Paged<T> {
    pages: Vec<Box<[T; PAGE]>>,
    len: usize,
}

impl<T: Copy> Paged<T> {
    /// Add a record; where it is.
    pub fn push(&mut self, record: T) -> u32 {
        let at = u32::try_from(self.len).ok().filter(|&at| at != u32::MAX).expect("fewer than 2^32 records");
        if self.len.is_multiple_of(PAGE) {
            let page = vec![record; PAGE].into_boxed_slice();
            self.pages.push(page.try_into().unwrap_or_else(|_| unreachable!("it is as long as a page")));
        } else {
            self[at] = record;
        }
        self.len += 1;
        at
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// All records.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter()).take(self.len)
    }
}

/// Records of which most are like a new one: a page stands only where one on it is not.
#[derive(Clone, Debug, Default)]
pub struct Sparse<T> {
    pages: Vec<Option<Box<[T; PAGE]>>>,
}

impl<T: Copy + Default + PartialEq> Sparse<T> {
    /// A record.
    #[inline]
    pub fn get(&self, at: u32) -> T {
        match self.pages.get(at as usize / PAGE) {
            Some(Some(page)) => page[at as usize % PAGE],
            _ => T::default(),
        }
    }

    /// Set a record.
    #[inline]
    pub fn set(&mut self, at: u32, record: T) {
        if !self.pages.is_empty() || record != T::default() {
            self.set_on_page(at, record);
        }
    }

    fn set_on_page(&mut self, at: u32, record: T) {
        let (page, at) = (at as usize / PAGE, at as usize % PAGE);
        if self.pages.len() <= page {
            if record == T::default() {
                return;
            }
            self.pages.resize_with(page + 1, || None);
        }
        match &mut self.pages[page] {
            Some(page) => page[at] = record,
            None if record == T::default() => {}
            none => none.insert(Box::new([T::default(); PAGE]))[at] = record,
        }
    }

    /// Begin to fetch a record.
    #[inline]
    pub fn prefetch(&self, at: u32) {
        if let Some(Some(page)) = self.pages.get(at as usize / PAGE) {
            prefetch(&page[at as usize % PAGE]);
        }
    }
}

impl<T> Index<u32> for Paged<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: u32) -> &T {
        &self.pages[at as usize / PAGE][at as usize % PAGE]
    }
}

impl<T> IndexMut<u32> for Paged<T> {
    #[inline]
    fn index_mut(&mut self, at: u32) -> &mut T {
        &mut self.pages[at as usize / PAGE][at as usize % PAGE]
    }
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Paged { pages: Vec::new(), len: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_set_is_as_new_and_costs_nothing() {
        let mut sparse = Sparse::default();
        sparse.set(70_000, [0u32; 2]);
        assert!(sparse.pages.is_empty());
        sparse.set(5_000, [1, 2]);
        sparse.set(70_000, [0; 2]);
        sparse.set(5_001, [0; 2]);
        assert_eq!([0, 5_000, 5_001, 70_000].map(|at| sparse.get(at)), [[0; 2], [1, 2], [0; 2], [0; 2]]);
        sparse.set(5_000, [0; 2]);
        assert_eq!((sparse.get(5_000), sparse.pages.iter().flatten().count()), ([0; 2], 1));
    }

    #[test]
    fn what_is_added_is_found_where_it_was_put() {
        let mut paged = Paged::default();
        for record in 0..2_000u64 {
            assert_eq!(u64::from(paged.push(record)), record);
        }
        paged[600] = 7;
        assert_eq!((paged[599], paged[600], paged[1_999]), (599, 7, 1_999));
        assert_eq!(paged.iter().count(), 2_000);
    }
}
