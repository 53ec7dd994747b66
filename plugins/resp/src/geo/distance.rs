//! Distances on a round earth (haversine), and the units they are told in.

use super::cell::Place;

/// Radius of the earth, in metres: the mean that Redis counts with.
pub const EARTH_RADIUS_M: f64 = 6_372_797.560_856;

/// A unit of length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    /// Metres.
    pub m: f64,
}

impl Unit {
    /// Metres.
    pub const METRE: Unit = Unit { m: 1.0 };

    /// The unit of that name.
    pub fn of(name: &[u8]) -> Option<Unit> {
        let m = match name.to_ascii_lowercase().as_slice() {
            b"m" => 1.0,
            b"km" => 1000.0,
            b"ft" => 0.3048,
            b"mi" => 1609.34,
            _ => return None,
        };
        Some(Unit { m })
    }
}

/// Degrees as radians: by the constant of C, as rounding shows in the last digits.
pub fn radians(degrees: f64) -> f64 {
    degrees * (std::f64::consts::PI / 180.0)
}

/// Radians as degrees.
pub fn degrees(radians: f64) -> f64 {
    radians / (std::f64::consts::PI / 180.0)
}

/// Metres along a meridian.
pub fn along_meridian_m(a_lat: f64, b_lat: f64) -> f64 {
    EARTH_RADIUS_M * (radians(b_lat) - radians(a_lat)).abs()
}

/// Metres between two places, along the great circle.
pub fn between_m(a: Place, b: Place) -> f64 {
    let half_lon = ((radians(b.lon) - radians(a.lon)) / 2.0).sin();
    if half_lon == 0.0 {
        return along_meridian_m(a.lat, b.lat);
    }
    let (a_lat, b_lat) = (radians(a.lat), radians(b.lat));
    let half_lat = ((b_lat - a_lat) / 2.0).sin();
    let chord = half_lat * half_lat + a_lat.cos() * b_lat.cos() * half_lon * half_lon;
    2.0 * EARTH_RADIUS_M * chord.sqrt().asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_the_documented_ones() {
        let stored = |lon, lat| Place::of_score(Place { lon, lat }.score() as f64);
        let (palermo, catania) = (stored(13.361389, 38.115556), stored(15.087269, 37.502669));
        let told = |unit: &[u8]| {
            let unit = Unit::of(unit).expect("a unit");
            format!("{:.4}", between_m(palermo, catania) / unit.m)
        };
        assert_eq!(told(b"m"), "166274.1516");
        assert_eq!(told(b"KM"), "166.2742");
        assert_eq!(told(b"mi"), "103.3182");
        assert_eq!(Unit::of(b"yd"), None);
        assert_eq!(between_m(palermo, palermo), 0.0);
    }

    #[test]
    fn great_circles_have_known_lengths() {
        let place = |lon, lat| Place { lon, lat };
        let quarter = std::f64::consts::FRAC_PI_2 * EARTH_RADIUS_M;
        for (a, b, want) in [
            (place(0.0, 0.0), place(90.0, 0.0), quarter),
            (place(-180.0, 0.0), place(0.0, 0.0), 2.0 * quarter),
            (place(10.0, 0.0), place(10.0, 85.0), quarter * 85.0 / 90.0),
            // Around the date line it is a degree, not 359.
            (place(179.5, 0.0), place(-179.5, 0.0), quarter / 90.0),
        ] {
            assert!((between_m(a, b) - want).abs() < 0.001, "{a:?} {b:?}");
            assert!((between_m(b, a) - want).abs() < 0.001);
        }
        assert_eq!(along_meridian_m(-10.0, 10.0), along_meridian_m(10.0, -10.0));
    }
}
