//! Which ranges of scores cover a shape on the earth, and which of their places lie in it.
//!
//! A shape is covered by the cell of its centre and the eight around it, of the finest step at
//! which they suffice; cells that it cannot reach are left out. Always true: the ranges come in
//! Redis' order, because replies that nobody sorts show it.

use super::cell::{Area, Cell, Place, STEP_MAX};
use super::distance::{EARTH_RADIUS_M, along_meridian_m, between_m, degrees, radians};

/// A shape, in metres.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// All that is as near as this.
    Circle {
        /// Its radius.
        radius_m: f64,
    },
    /// A box of these sides, along meridian and parallel.
    Box {
        /// From west to east.
        width_m: f64,
        /// From south to north.
        height_m: f64,
    },
}

/// Half the earth's circumference on a square map, in metres.
const HALF_MAP_M: f64 = 20_037_726.37;

/// Where the cells around one lie, columns east and rows north, in the order of the search.
const AROUND: [(i32, i32); 9] =
    [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];

impl Shape {
    /// How far a place is from the centre, in metres, if it lies in the shape.
    pub fn distance_m(self, centre: Place, place: Place) -> Option<f64> {
        if let Shape::Box { width_m, height_m } = self {
            let across = Place { lon: centre.lon, lat: place.lat };
            if along_meridian_m(place.lat, centre.lat) > height_m / 2.0
                || between_m(place, across) > width_m / 2.0
            {
                return None;
            }
        }
        let distance = between_m(centre, place);
        match self {
            Shape::Circle { radius_m } if distance > radius_m => None,
            _ => Some(distance),
        }
    }

    /// From the centre to the farthest point, in metres.
    fn reach_m(self) -> f64 {
        match self {
            Shape::Circle { radius_m } => radius_m,
            Shape::Box { width_m, height_m } => {
                let (x, y) = (width_m / 2.0, height_m / 2.0);
                (x * x + y * y).sqrt()
            }
        }
    }

    /// The degrees that it lies within.
    fn bounds(self, centre: Place) -> Area {
        let (x, y) = match self {
            Shape::Circle { radius_m } => (radius_m, radius_m),
            Shape::Box { width_m, height_m } => (width_m / 2.0, height_m / 2.0),
        };
        let dlat = degrees(y / EARTH_RADIUS_M);
        // Meridians are closest at the end that is nearer to a pole.
        let widest = if centre.lat < 0.0 { centre.lat - dlat } else { centre.lat + dlat };
        let dlon = degrees(x / EARTH_RADIUS_M / radians(widest).cos());
        Area {
            west: centre.lon - dlon,
            east: centre.lon + dlon,
            south: centre.lat - dlat,
            north: centre.lat + dlat,
        }
    }
}

/// The finest step whose cells are as large as a reach, nearly always.
fn step_for(reach_m: f64, lat: f64) -> u32 {
    if reach_m == 0.0 {
        return STEP_MAX;
    }
    let (mut reach_m, mut step) = (reach_m, 1i32);
    while reach_m < HALF_MAP_M {
        reach_m *= 2.0;
        step += 1;
    }
    step -= 2;
    // Cells are narrower towards the poles.
    step -= i32::from(lat.abs() > 66.0) + i32::from(lat.abs() > 80.0);
    step.clamp(1, STEP_MAX as i32) as u32
}

/// Whether the cells around one end before the bounds do.
fn is_too_small(cell: Cell, bounds: &Area) -> bool {
    let area = |east, north| cell.beside(east, north).area();
    area(0, 1).north < bounds.north
        || area(0, -1).south > bounds.south
        || area(1, 0).east < bounds.east
        || area(-1, 0).west > bounds.west
}

/// The ranges of scores that cover a shape: each from the first up to, and without, the second.
pub fn ranges(centre: Place, shape: Shape) -> Vec<(u64, u64)> {
    let bounds = shape.bounds(centre);
    let mut step = step_for(shape.reach_m(), centre.lat);
    let mut cell = Cell::of(centre, step);
    if step > 1 && is_too_small(cell, &bounds) {
        step -= 1;
        cell = Cell::of(centre, step);
    }
    let area = cell.area();
    // Sides that the bounds do not reach. With two columns each is on both sides of the other.
    let skips = |east: i32, north: i32| {
        step >= 2
            && (east < 0 && area.west < bounds.west
                || east > 0 && area.east > bounds.east
                || north < 0 && area.south < bounds.south
                || north > 0 && area.north > bounds.north)
    };
    let mut ranges: Vec<(u64, u64)> = Vec::with_capacity(AROUND.len());
    for (east, north) in AROUND {
        if skips(east, north) {
            continue;
        }
        let range = cell.beside(east, north).scores();
        // Around the whole earth neighbours coincide.
        if ranges.len() > 1 && ranges.last() == Some(&range) {
            continue;
        }
        ranges.push(range);
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_small_circle_needs_few_cells_and_a_point_its_own() {
        let centre = Place { lon: 15.0, lat: 37.0 };
        let all = ranges(centre, Shape::Circle { radius_m: 200_000.0 });
        assert!((1..=4).contains(&all.len()), "{all:?}");
        let own = ranges(centre, Shape::Circle { radius_m: 0.0 });
        assert!(own[0].0 == centre.score() && own[0].1 == centre.score() + 1);
        let all = ranges(centre, Shape::Circle { radius_m: 20_000_000.0 });
        let covered: u64 = all.iter().map(|(from, to)| to - from).sum();
        assert!(covered >= 1 << 52, "everything is covered");
    }

    #[test]
    fn a_box_is_as_wide_and_as_high_as_it_says() {
        let centre = Place { lon: 15.0, lat: 37.0 };
        let shape = Shape::Box { width_m: 400_000.0, height_m: 400_000.0 };
        let at = |lon, lat| shape.distance_m(centre, Place { lon, lat });
        assert!(at(13.361389, 38.115556).is_some());
        assert!(at(12.758489, 38.788135).is_some() && at(12.6, 38.7).is_none());
        // A corner is farther than the sides are.
        assert!(at(17.0, 38.5).is_some_and(|m| m > 200_000.0));
        assert!(at(15.0, 38.9).is_none() && at(18.0, 37.0).is_none());
    }

    proptest! {
        #[test]
        fn whatever_lies_in_a_shape_is_in_its_ranges(
            lon in -170.0..170.0f64,
            lat in -60.0..60.0f64,
            reach_m in 1.0..500_000.0f64,
            turn in 0.0..std::f64::consts::TAU,
            part in 0.0..1.0f64,
            is_box: bool,
        ) {
            let centre = Place { lon, lat };
            let shape = match is_box {
                false => Shape::Circle { radius_m: reach_m },
                true => Shape::Box { width_m: reach_m, height_m: reach_m * 0.7 },
            };
            let off = degrees(reach_m * part / EARTH_RADIUS_M);
            let place = Place {
                lon: lon + off * turn.cos() / radians(lat).cos(),
                lat: lat + off * turn.sin(),
            };
            let score = place.score();
            let stored = Place::of_score(score as f64);
            if shape.distance_m(centre, stored).is_some() {
                let all = ranges(centre, shape);
                prop_assert!(all.iter().any(|(from, to)| (*from..*to).contains(&score)));
            }
        }
    }
}
