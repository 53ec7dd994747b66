//! Geo commands that are one operation: GEOADD, GEOPOS, GEOHASH and GEODIST. Places are members of
//! a sorted set, their scores what [`crate::geo`] makes of them.

use crucible_plugin_api::{Element, Op, StructFlags as Flag, StructOp};

use super::{Ask, Shape, note};
use crate::error::Refusal;
use crate::exec::{Ops, Pushed};
use crate::frame::Args;
use crate::geo::cell::{Place, text};
use crate::geo::distance::{Unit, between_m};
use crate::number::parse_score;
use crate::reply::Cx;
use crate::table::Cmd;
use crate::ticket::Ticket;
use crate::write::{Sink, Writer};

/// What is told of members' scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Told {
    /// Where so many members are.
    Places(u32),
    /// Their public geohashes.
    Hashes(u32),
    /// How far two of them are apart.
    Distance(Unit),
}

pub(super) fn push<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let members = args.len() as u32 - 2;
    let told = match command {
        Cmd::Geoadd => return add(args, q),
        Cmd::Geopos => Told::Places(members),
        Cmd::Geohash => Told::Hashes(members),
        Cmd::Geodist if args.len() > 5 => return Err(Refusal::Syntax),
        Cmd::Geodist => Told::Distance(args.get(4).map_or(Ok(Unit::METRE), unit)?),
        _ => return super::geosearch::push(command, args, q),
    };
    let asked = if let Told::Distance(_) = told { 2 } else { members as usize };
    let members = q.elements(args.from(2).take(asked).map(Element::bytes));
    let op = Op::structure(StructOp::ZSET_SCORE, args.at(1)).args(members);
    q.command(op, Ticket::Geo(told));
    Ok(())
}

/// Reads the name of a unit.
pub(super) fn unit(name: &[u8]) -> Result<Unit, Refusal> {
    let error = "ERR unsupported unit provided. please use M, KM, FT, MI";
    Unit::of(name).ok_or_else(|| Refusal::Text(error.to_owned()))
}

/// Reads longitude and latitude.
pub(super) fn place(lon: &[u8], lat: &[u8]) -> Result<Place, Refusal> {
    let degrees = |word| parse_score(word).ok_or(Refusal::NotAFloat);
    let place = Place { lon: degrees(lon)?, lat: degrees(lat)? };
    if place.is_valid() {
        return Ok(place);
    }
    let Place { lon, lat } = place;
    Err(Refusal::Text(format!("ERR invalid longitude,latitude pair {lon:.6},{lat:.6}")))
}

/// GEOADD key [NX|XX] [CH] longitude latitude member ..
fn add<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let (mut flags, mut at) = (Flag::NONE, 2);
    while let Some(word) = args.get(at) {
        flags = flags
            | match word.to_ascii_lowercase().as_slice() {
                b"nx" => Flag::IF_NEW,
                b"xx" => Flag::IF_HELD,
                b"ch" => Flag::COUNT_CHANGED,
                _ => break,
            };
        at += 1;
    }
    let words = args.len() - at;
    let conflict = flags.has(Flag::IF_NEW) && flags.has(Flag::IF_HELD);
    if words == 0 || !words.is_multiple_of(3) || conflict {
        return Err(Refusal::Syntax);
    }
    let mut pairs = Vec::with_capacity(words / 3 * 2);
    for at in (at..args.len()).step_by(3) {
        let place = place(args.at(at), args.at(at + 1))?;
        pairs.push(Element::double(place.score() as f64));
        pairs.push(Element::bytes(args.at(at + 2)));
    }
    Ask::new(q, StructOp::ZSET_ADD, args.at(1)).flag(flags).elements(pairs).push(Shape::Number);
    Ok(())
}

/// Answers where members are, what their hashes are, or how far apart they are.
pub fn answer<S: Sink + ?Sized>(cx: &Cx<'_, '_>, told: Told, op: &Op<'_>, w: &mut Writer<'_, S>) {
    if !op.status().is_answer() {
        return cx.failed(w, op);
    }
    note((cx.resp, cx.worker.id), op);
    let place =
        |at: usize| op.elements().get(at).and_then(|score| score.as_double()).map(Place::of_score);
    match told {
        Told::Places(n) => {
            w.array(n as usize);
            (0..n as usize).for_each(|at| match place(at) {
                Some(place) => write_place(w, place),
                None => w.null_array(),
            });
        }
        Told::Hashes(n) => {
            w.array(n as usize);
            (0..n as usize).for_each(|at| match place(at) {
                Some(place) => w.bulk(&text(place)),
                None => w.null(),
            });
        }
        Told::Distance(unit) => match (place(0), place(1)) {
            (Some(a), Some(b)) => write_distance(w, between_m(a, b) / unit.m),
            _ => w.null(),
        },
    }
}

/// Longitude and latitude.
pub(super) fn write_place<S: Sink + ?Sized>(w: &mut Writer<'_, S>, place: Place) {
    w.array(2);
    for degrees in [place.lon, place.lat] {
        let digits = format!("{degrees:.17}");
        w.double_text(match digits.trim_end_matches('0').trim_end_matches('.') {
            "-0" => "0",
            digits => digits,
        });
    }
}

/// A distance: text in both versions, a tenth of a millimetre exact if it is one of metres.
pub(super) fn write_distance<S: Sink + ?Sized>(w: &mut Writer<'_, S>, distance: f64) {
    w.bulk(format!("{distance:.4}").as_bytes());
}
