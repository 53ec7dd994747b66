//! Cells of a grid over the earth, and their numbers.
//!
//! ```text
//!  step n: 2^n columns of longitude x 2^n rows of latitude
//!  number: .. lon2 lat2 lon1 lat1 lon0 lat0      (bit 0 is lat0; 2n bits)
//!  score:  the number of the cell at step 26, or a cell's first such number
//! ```
//! Latitudes end where a square map does (EPSG:900913), which is why the number is not yet the
//! public geohash; [`text`] is, made of the whole range of latitudes.

/// Bits of a coordinate in a score.
pub const STEP_MAX: u32 = 26;
/// Farthest east, in degrees; as far west.
pub const LON_MAX: f64 = 180.0;
/// Farthest north that has a cell, in degrees; as far south.
pub const LAT_MAX: f64 = 85.051_128_78;
/// The same of public geohashes.
const LAT_MAX_OF_TEXT: f64 = 90.0;

/// A place, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// East of Greenwich.
    pub lon: f64,
    /// North of the equator.
    pub lat: f64,
}

impl Place {
    /// Whether it has a cell.
    pub fn is_valid(self) -> bool {
        (-LON_MAX..=LON_MAX).contains(&self.lon) && (-LAT_MAX..=LAT_MAX).contains(&self.lat)
    }

    /// The score of a place, which is valid.
    pub fn score(self) -> u64 {
        Cell::of(self, STEP_MAX).number()
    }

    /// The middle of the cell that a score names. Any number is read as a score.
    pub fn of_score(score: f64) -> Place {
        // A score that nobody made of a place stands for one anyhow: below zero it wraps.
        let number = if score < 0.0 { (score as i64).cast_unsigned() } else { score as u64 };
        let cell = Cell::of_number(number, STEP_MAX);
        let area = cell.area();
        Place {
            lon: ((area.west + area.east) / 2.0).clamp(-LON_MAX, LON_MAX),
            lat: ((area.south + area.north) / 2.0).clamp(-LAT_MAX, LAT_MAX),
        }
    }
}

/// What a cell covers, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Area {
    /// Least longitude.
    pub west: f64,
    /// Greatest longitude.
    pub east: f64,
    /// Least latitude.
    pub south: f64,
    /// Greatest latitude.
    pub north: f64,
}

/// A cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    column: u32,
    row: u32,
    step: u32,
}

/// Which of `2^step` equal parts of `-max..max` a coordinate is in.
fn part(at: f64, max: f64, step: u32) -> u32 {
    ((at + max) / (max - -max) * f64::from(1u32 << step)) as u32
}

impl Cell {
    /// The cell of a valid place.
    pub fn of(place: Place, step: u32) -> Cell {
        debug_assert!((1..=STEP_MAX).contains(&step));
        Cell { column: part(place.lon, LON_MAX, step), row: part(place.lat, LAT_MAX, step), step }
    }

    fn of_number(number: u64, step: u32) -> Cell {
        Cell { column: every_second(number >> 1), row: every_second(number), step }
    }

    /// Its number: the bits of column and row by turns.
    pub fn number(self) -> u64 {
        spread(self.row) | spread(self.column) << 1
    }

    /// The cell so many columns east and rows north; the edges of the map are joined. The eastern
    /// and the northern edge themselves belong to cells past the last, as long as nobody moves.
    pub fn beside(self, east: i32, north: i32) -> Cell {
        let last = (1 << self.step) - 1;
        let moved = |part: u32, by: i32| match by {
            0 => part,
            _ => part.wrapping_add_signed(by) & last,
        };
        Cell { column: moved(self.column, east), row: moved(self.row, north), step: self.step }
    }

    /// What it covers.
    pub fn area(self) -> Area {
        let edge = |part: f64, max: f64| -max + part / f64::from(1u32 << self.step) * (max - -max);
        let next = |part: u32| f64::from(part.wrapping_add(1));
        Area {
            west: edge(f64::from(self.column), LON_MAX),
            east: edge(next(self.column), LON_MAX),
            south: edge(f64::from(self.row), LAT_MAX),
            north: edge(next(self.row), LAT_MAX),
        }
    }

    /// The scores of all places in it: from the first up to, and without, the second.
    pub fn scores(self) -> (u64, u64) {
        let shift = 2 * (STEP_MAX - self.step);
        (self.number() << shift, (self.number() + 1) << shift)
    }
}

/// Puts a zero before each bit.
fn spread(bits: u32) -> u64 {
    let mut bits = u64::from(bits);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// The inverse: bits 0, 2, 4 and so on.
fn every_second(bits: u64) -> u32 {
    let mut bits = bits & 0x5555_5555_5555_5555;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits as u32
}

/// Letters of a public geohash; the last stands for bits that a score does not have.
pub const TEXT_LEN: usize = 11;

/// The public geohash of a place.
pub fn text(place: Place) -> [u8; TEXT_LEN] {
    const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
    let cell = Cell {
        column: part(place.lon, LON_MAX, STEP_MAX),
        row: part(place.lat, LAT_MAX_OF_TEXT, STEP_MAX),
        step: STEP_MAX,
    };
    let bits = cell.number();
    let mut text = [LETTERS[0]; TEXT_LEN];
    for (at, letter) in text[..TEXT_LEN - 1].iter_mut().enumerate() {
        *letter = LETTERS[(bits >> (52 - 5 * (at + 1)) & 31) as usize];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PALERMO: Place = Place { lon: 13.361389, lat: 38.115556 };
    const CATANIA: Place = Place { lon: 15.087269, lat: 37.502669 };

    #[test]
    fn scores_and_geohashes_are_the_documented_ones() {
        // The example of Redis' own documentation.
        assert_eq!(PALERMO.score(), 3_479_099_956_230_698);
        assert_eq!(CATANIA.score(), 3_479_447_370_796_909);
        let text = |place: Place| {
            let stored = Place::of_score(place.score() as f64);
            String::from_utf8(super::text(stored).to_vec()).expect("letters")
        };
        assert_eq!(
            (text(PALERMO).as_str(), text(CATANIA).as_str()),
            ("sqc8b49rny0", "sqdtr74hyu0")
        );
        // The example of the public article on geohashes: ezs42 is at 42.6 -5.6.
        assert!(text(Place { lon: -5.6, lat: 42.6 }).starts_with("ezs42"));
        assert!(text(Place { lon: 10.40744, lat: 57.64911 }).starts_with("u4pruydqqv"));
    }

    #[test]
    fn a_place_comes_back_within_its_cell() {
        let back = Place::of_score(PALERMO.score() as f64);
        assert_eq!(
            format!("{:.17} {:.17}", back.lon, back.lat),
            "13.36138933897018433 38.11555639549629859"
        );
        for lon in [-180.0, -179.999_999, -90.5, -0.000_001, 0.0, 3.3, 179.999_999, 180.0] {
            for lat in [-LAT_MAX, -66.0, -0.000_001, 0.0, 12.34, 85.0, LAT_MAX] {
                let place = Place { lon, lat };
                assert!(place.is_valid());
                if lon == LON_MAX || lat == LAT_MAX {
                    continue;
                }
                let back = Place::of_score(place.score() as f64);
                assert!((back.lon - lon).abs() <= 180.0 / f64::from(1 << STEP_MAX), "{place:?}");
                assert!((back.lat - lat).abs() <= 90.0 / f64::from(1 << STEP_MAX), "{place:?}");
                assert_eq!(back.score(), place.score());
            }
        }
        for (lon, lat) in [(180.1, 0.0), (-181.0, 0.0), (0.0, 85.1), (0.0, -85.1)] {
            assert!(!Place { lon, lat }.is_valid());
        }
    }

    #[test]
    fn a_cell_holds_the_scores_of_its_places_and_no_others() {
        for step in 1..=STEP_MAX {
            let cell = Cell::of(PALERMO, step);
            let (from, to) = cell.scores();
            assert!((from..to).contains(&PALERMO.score()));
            assert_eq!(to - from, 1 << (2 * (STEP_MAX - step)));
            let area = cell.area();
            assert!(area.west <= PALERMO.lon && PALERMO.lon < area.east);
            assert!(area.south <= PALERMO.lat && PALERMO.lat < area.north);
            assert_eq!(cell.beside(3, -2).beside(-3, 2), cell);
        }
        let corner = Cell::of(Place { lon: -180.0, lat: -85.0 }, 4);
        assert_eq!(corner.beside(-1, 0).area().east, 180.0, "the edges are joined");
        let edge = Cell::of(Place { lon: 180.0, lat: 10.0 }, 4);
        assert_eq!(edge.beside(0, 1).area().west, 180.0);
        assert_eq!(edge.beside(-1, 0).area().east, 180.0);
    }

    #[test]
    fn bits_go_apart_and_come_together() {
        for bits in [0, 1, 2, 0x8000_0000, u32::MAX, 0x1234_5678] {
            assert_eq!(every_second(spread(bits)), bits);
            let slowly = (0..32).map(|i| u64::from(bits >> i & 1) << (2 * i)).sum::<u64>();
            assert_eq!(spread(bits), slowly);
        }
    }
}
