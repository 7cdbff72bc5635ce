//! The cells of the KV cache, counted: which are free, and how many slots use each of the others. llama.cpp keeps the
//! cells themselves and fails when none is free; this book says beforehand. No cell has an address here, only a number.

/// The book.
#[derive(Debug)]
pub(super) struct Pool {
    /// For each cell, the slots that use it.
    users: Vec<u16>,
    free: Vec<u32>,
}

impl Pool {
    /// `n_cells`, all free.
    pub(super) fn new(n_cells: usize) -> Self {
        let n = u32::try_from(n_cells).unwrap_or(u32::MAX);
        Self { users: vec![0; n as usize], free: (0..n).rev().collect() }
    }

    /// Cells that nobody uses.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes `n` free cells, or all there are.
    pub(super) fn take(&mut self, n: usize) -> Vec<u32> {
        let taken = self.free.split_off(self.free.len() - n.min(self.free.len()));
        taken.iter().for_each(|cell| self.users[*cell as usize] = 1);
        taken
    }

    /// One slot more uses these.
    pub(super) fn share(&mut self, cells: &[u32]) -> Vec<u32> {
        cells.iter().for_each(|cell| self.users[*cell as usize] += 1);
        cells.to_vec()
    }

    /// One slot uses these no longer; what was its alone is free.
    pub(super) fn give(&mut self, cells: impl IntoIterator<Item = u32>) {
        for cell in cells {
            let users = &mut self.users[cell as usize];
            *users -= 1;
            if *users == 0 {
                self.free.push(cell);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pool;

    #[test]
    fn a_cell_is_free_when_its_last_user_has_left() {
        let mut pool = Pool::new(4);
        let first = pool.take(3);
        let second = pool.share(&first[..2]);
        assert_eq!((first.len(), pool.free()), (3, 1));
        pool.give(first);
        assert_eq!(pool.free(), 2, "two cells are still the second's");
        assert_eq!(pool.take(9).len(), 2);
        pool.give(second);
        assert_eq!(pool.free(), 2);
    }
}
