//! Numbers by chance, the same each time.

/// Where the numbers come from: any number but 0.
pub struct Chance(pub u64);

impl Chance {
    /// One of 0 to `bound` - 1.
    pub fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 % u64::from(bound)).unwrap()
    }
}
