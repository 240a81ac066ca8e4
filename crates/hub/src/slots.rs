//! Numbered places: a vector with holes that are filled again.

pub(crate) struct Slots<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// The number that the next [`Slots::insert`] gives.
    pub(crate) fn next(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.places.len() as u32)
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        match self.free.pop() {
            Some(slot) => {
                self.places[slot as usize] = Some(value);
                slot
            }
            None => {
                self.places.push(Some(value));
                self.places.len() as u32 - 1
            }
        }
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        self.places.get(slot as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.places.get_mut(slot as usize)?.as_mut()
    }

    /// Frees the place.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let value = self.places.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(value)
    }

    /// Borrows the value out of its place, which stays reserved until [`Slots::put_back`] or [`Slots::give_up`].
    pub(crate) fn lift(&mut self, slot: u32) -> Option<T> {
        self.places.get_mut(slot as usize)?.take()
    }

    pub(crate) fn put_back(&mut self, slot: u32, value: T) {
        self.places[slot as usize] = Some(value);
    }

    /// Frees the place of a lifted value.
    pub(crate) fn give_up(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// One above the highest place ever used.
    pub(crate) fn end(&self) -> u32 {
        self.places.len() as u32
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten()
    }
}
