//! The arguments of a geo search, read as Redis reads them: from left to right, and each judged when
//! it is met, so that the first thing wrong is the one that is told. What a named member's score is
//! belongs to that, which is why the reader asks for it.

use super::geo::{place, unit};
use crate::error::{Refusal, quote};
use crate::geo::cell::Place;
use crate::geo::distance::Unit;
use crate::geo::search::Shape;
use crate::number::{parse_i64, parse_score};
use crate::table::Cmd;

/// What is known of a member.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Known {
    /// Its score.
    At(f64),
    /// It is not there.
    No,
    /// Nor is the key.
    NoKey,
}

/// How members are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// As they are found.
    None,
    /// Nearest first.
    Nearest,
    /// Farthest first.
    Farthest,
}

/// A search.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    pub(super) centre: Place,
    pub(super) shape: Shape,
    pub(super) unit: Unit,
    pub(super) order: Order,
    /// At most so many.
    pub(super) count: usize,
    /// Any of them, instead of the nearest.
    pub(super) any: bool,
    pub(super) with_place: bool,
    pub(super) with_distance: bool,
    pub(super) with_hash: bool,
    /// The key that keeps the result.
    pub(super) store: Option<Vec<u8>>,
    /// Distances are the scores that are kept.
    pub(super) store_distance: bool,
}

/// What has been read of one.
struct Reader<'w, F> {
    words: &'w [Vec<u8>],
    score_of: F,
    centre: Option<Place>,
    shape: Option<Shape>,
    request: Request,
    count: Option<usize>,
}

fn text(text: &str) -> Refusal {
    Refusal::Text(text.to_owned())
}

/// A length that is not negative, in metres.
fn length(word: &[u8], what: &str) -> Result<f64, Refusal> {
    parse_score(word).ok_or_else(|| text(&format!("ERR need numeric {what}")))
}

impl Request {
    /// Reads a command with its name; `score_of` says what is known of a member.
    pub(super) fn read(
        command: Cmd,
        words: &[Vec<u8>],
        score_of: impl FnMut(&[u8]) -> Known,
    ) -> Result<Request, Refusal> {
        let nowhere = Place { lon: 0.0, lat: 0.0 };
        let request = Request {
            centre: nowhere,
            shape: Shape::Circle { radius_m: 0.0 },
            unit: Unit::METRE,
            order: Order::None,
            count: usize::MAX,
            any: false,
            with_place: false,
            with_distance: false,
            with_hash: false,
            store: (command == Cmd::Geosearchstore).then(|| words[1].clone()),
            store_distance: false,
        };
        let mut reader =
            Reader { words, score_of, centre: None, shape: None, request, count: None };
        let from = match command {
            Cmd::Georadius | Cmd::GeoradiusRo => {
                reader.centre = Some(place(&words[2], &words[3])?);
                reader.circle(4)?;
                6
            }
            Cmd::Georadiusbymember | Cmd::GeoradiusbymemberRo => {
                // Without the key, Redis does not look at the radius.
                if reader.member(2)? {
                    reader.circle(3)?;
                } else {
                    (reader.centre, reader.shape) = (Some(nowhere), Some(reader.request.shape));
                }
                5
            }
            Cmd::Geosearchstore => 3,
            _ => 2,
        };
        let searches = matches!(command, Cmd::Geosearch | Cmd::Geosearchstore);
        reader.options(from, command, searches)?;
        reader.judge(command)
    }
}

impl<F: FnMut(&[u8]) -> Known> Reader<'_, F> {
    /// Reads radius and unit.
    fn circle(&mut self, at: usize) -> Result<(), Refusal> {
        let radius = length(&self.words[at], "radius")?;
        if radius < 0.0 {
            return Err(text("ERR radius cannot be negative"));
        }
        self.request.unit = unit(&self.words[at + 1])?;
        self.shape = Some(Shape::Circle { radius_m: radius * self.request.unit.m });
        Ok(())
    }

    /// Reads width, height and unit.
    fn sides(&mut self, at: usize) -> Result<(), Refusal> {
        let width = length(&self.words[at], "width")?;
        let height = length(&self.words[at + 1], "height")?;
        if width < 0.0 || height < 0.0 {
            return Err(text("ERR height or width cannot be negative"));
        }
        let unit = unit(&self.words[at + 2])?;
        self.request.unit = unit;
        self.shape = Some(Shape::Box { width_m: width * unit.m, height_m: height * unit.m });
        Ok(())
    }

    /// Takes a member as the centre; false when there is no key.
    fn member(&mut self, at: usize) -> Result<bool, Refusal> {
        match (self.score_of)(&self.words[at]) {
            Known::At(score) => {
                self.centre = Some(Place::of_score(score));
                Ok(true)
            }
            Known::No => Err(text("ERR could not decode requested zset member")),
            Known::NoKey => Ok(false),
        }
    }

    fn options(&mut self, from: usize, command: Cmd, searches: bool) -> Result<(), Refusal> {
        let may_store = matches!(command, Cmd::Georadius | Cmd::Georadiusbymember);
        let (mut from_member, mut from_place) = (false, false);
        let mut at = from;
        while let Some(word) = self.words.get(at) {
            let behind = self.words.len() - at - 1;
            let is_circle = matches!(self.shape, Some(Shape::Circle { .. }));
            let is_box = matches!(self.shape, Some(Shape::Box { .. }));
            let request = &mut self.request;
            at += match (word.to_ascii_lowercase().as_slice(), behind) {
                (b"withdist", _) => {
                    request.with_distance = true;
                    1
                }
                (b"withhash", _) => {
                    request.with_hash = true;
                    1
                }
                (b"withcoord", _) => {
                    request.with_place = true;
                    1
                }
                (b"any", _) => {
                    request.any = true;
                    1
                }
                (b"asc", _) => {
                    request.order = Order::Nearest;
                    1
                }
                (b"desc", _) => {
                    request.order = Order::Farthest;
                    1
                }
                (b"count", 1..) => {
                    let count = parse_i64(&self.words[at + 1]).ok_or(Refusal::NotAnInteger)?;
                    if count <= 0 {
                        return Err(text("ERR COUNT must be > 0"));
                    }
                    self.count = Some(usize::try_from(count).unwrap_or(usize::MAX));
                    2
                }
                (b"store" | b"storedist", 1..) if may_store => {
                    request.store = Some(self.words[at + 1].clone());
                    request.store_distance = word.len() > b"store".len();
                    2
                }
                (b"storedist", _) if command == Cmd::Geosearchstore => {
                    request.store_distance = true;
                    1
                }
                (b"frommember", 1..) if searches && !from_place => {
                    from_member = true;
                    if !self.member(at + 1)? {
                        self.centre = Some(self.request.centre);
                    }
                    2
                }
                (b"fromlonlat", 2..) if searches && !from_member => {
                    from_place = true;
                    self.centre = Some(place(&self.words[at + 1], &self.words[at + 2])?);
                    3
                }
                (b"byradius", 2..) if searches && !is_box => {
                    self.circle(at + 1)?;
                    3
                }
                (b"bybox", 3..) if searches && !is_circle => {
                    self.sides(at + 1)?;
                    4
                }
                _ => return Err(Refusal::Syntax),
            };
        }
        Ok(())
    }

    /// What does not fit together.
    fn judge(self, command: Cmd) -> Result<Request, Refusal> {
        let mut request = self.request;
        if request.store.is_some()
            && (request.with_distance || request.with_hash || request.with_place)
        {
            let who = match command {
                Cmd::Geosearchstore => "GEOSEARCHSTORE",
                _ => "STORE option in GEORADIUS",
            };
            return Err(text(&format!(
                "ERR {who} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        let name = || quote(&self.words[0]);
        let Some(centre) = self.centre else {
            return Err(text(&format!(
                "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {}",
                name()
            )));
        };
        let Some(shape) = self.shape else {
            return Err(text(&format!(
                "ERR exactly one of BYRADIUS and BYBOX can be specified for {}",
                name()
            )));
        };
        if request.any && self.count.is_none() {
            return Err(text("ERR the ANY argument requires COUNT argument"));
        }
        // So many of them means the nearest, unless any will do.
        if self.count.is_some() && request.order == Order::None && !request.any {
            request.order = Order::Nearest;
        }
        (request.centre, request.shape) = (centre, shape);
        request.count = self.count.unwrap_or(usize::MAX);
        Ok(request)
    }
}
