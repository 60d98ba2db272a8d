//! Dice: choices that look free and are fixed by a seed and a text.

/// A generator of choices.
pub(super) struct Dice(u64);

impl Dice {
    /// Dice that always fall the same way for the same `seed`, `place` in the conversation and `text`.
    pub(super) fn new(seed: i64, place: usize, text: &str) -> Self {
        // FNV-1a: unlike the standard library's hasher it is the same in every release.
        let hash = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        let mut dice = Self(hash);
        // Each part passes the generator, so that neighbouring seeds are no neighbours afterwards.
        for part in [seed.cast_unsigned(), place as u64] {
            dice.0 ^= part;
            dice.0 = dice.roll();
        }
        dice
    }

    /// 64 bits: SplitMix64 (Steele, Lea, Flood 2014).
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `choices`, of which there is at least one.
    pub(super) fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[(self.roll() % choices.len() as u64) as usize]
    }
}
