"""Geo commands for flow_resp_structs_diff: some by hand, and searches over random places."""

import random

SICILY = "GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania 12.758489 38.788135 edge1 17.241510 38.788135 edge2"

BY_HAND = rf"""
{SICILY} | GEOADD g 13.361389 38.115556 Palermo | GEOADD g CH 13.5 38.2 Palermo 1 2 new | GEOADD g NX 0 0 Palermo 5 5 n2 | GEOADD g XX CH 1.5 2.5 new 9 9 nope | GEOADD g nx ch 7 7 n3 | ZRANGE g 0 -1 WITHSCORES | ZCARD g | TYPE g | OBJECT ENCODING g
+ GEOADD g XX NX 1 1 a | GEOADD g NX XX | GEOADD g CH | GEOADD g 1 2 | GEOADD g 1 2 a 3 | GEOADD g | GEOADD | GEOADD g 181 0 a | GEOADD g -180.1 0 a | GEOADD g 0 85.06 a | GEOADD g 0 -85.06 a | GEOADD g x 0 a | GEOADD g 0 y a | GEOADD g nan 0 a | GEOADD g inf 0 a | GEOADD g 0 0 a 200 100 b
+ GEOADD g FOO 1 1 a | GEOADD g 1 1 a FOO | GEOADD g INCR 1 1 a | GEOADD g GT 1 1 a | ZCARD g | GEOADD g 180 85.05112878 ne -180 -85.05112878 sw | GEOPOS g ne sw | GEOHASH g ne sw | ZSCORE g ne | ZSCORE g sw | GEOSEARCH g FROMMEMBER ne BYRADIUS 100 km WITHDIST | GEOSEARCH g FROMMEMBER sw BYBOX 500 500 km WITHHASH | GEOSEARCH g FROMLONLAT 180 85.05 BYRADIUS 5000 km ASC | GEOSEARCH g FROMLONLAT -180 -85.05 BYBOX 3000 3000 km DESC | GEOADD g 1e1 .5 exp | GEOADD g "" 1 empty | GEOADD g " 1" 1 blank | GEOADD g 1 1 ""
{SICILY} | GEOPOS g Palermo Catania nope | GEOPOS g | GEOPOS nokey a b | GEOPOS nokey | GEOPOS | GEOHASH g Palermo nope Catania | GEOHASH g | GEOHASH nokey a | GEOHASH nokey | GEOHASH | GEOHASH g Palermo Palermo
+ GEODIST g Palermo Catania | GEODIST g Palermo Catania m | GEODIST g Palermo Catania KM | GEODIST g Palermo Catania ft | GEODIST g Palermo Catania Mi | GEODIST g Palermo Catania yd | GEODIST g Palermo nope | GEODIST g nope Palermo | GEODIST nokey a b | GEODIST nokey a b yd | GEODIST g Palermo Catania m m | GEODIST g Palermo | GEODIST g Palermo Palermo | GEODIST g edge1 edge2 km
ZADD z 0 zero 1 one 4503599627370495 last 4503599627370496 past 1e18 far -1 neg -5e17 low 0.5 half inf inf -inf ninf | GEOPOS z zero one last past far neg low half | GEOHASH z zero one last past far neg low half | GEODIST z zero one | GEODIST z one last km | GEOSEARCH z FROMMEMBER zero BYRADIUS 1 km ASC WITHDIST WITHHASH | GEOSEARCH z FROMLONLAT 0 0 BYRADIUS 21000 km ASC COUNT 3
SET s v | GEOADD s 1 1 a | GEOADD s x 1 a | GEOPOS s a | GEOHASH s a | GEODIST s a b | GEODIST s a b yd | GEOSEARCH s FROMLONLAT 1 1 BYRADIUS 1 km | GEOSEARCH s FROMMEMBER a BYRADIUS 1 km | GEOSEARCH s FOO a b c d e f | GEORADIUS s 1 1 1 km | GEORADIUS s x 1 1 km | GEORADIUSBYMEMBER s a 1 km | GEORADIUS_RO s 1 1 1 km | GEOSEARCHSTORE d s FROMLONLAT 1 1 BYRADIUS 1 km | GEOSEARCHSTORE d s FROMLONLAT 1 1 BYRADIUS x km
{SICILY} | GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km ASC | GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km DESC WITHDIST | GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km | GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 400 km ASC WITHCOORD WITHDIST WITHHASH | GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 400 km WITHHASH | GEOSEARCH g FROMMEMBER Palermo BYRADIUS 300 km ASC WITHDIST | GEOSEARCH g FROMMEMBER Palermo BYRADIUS 0 km | GEOSEARCH g FROMMEMBER Palermo BYBOX 0 0 m
+ GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km COUNT 1 | GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 500 km COUNT 2 DESC WITHDIST | GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 500 km COUNT 2 ANY | GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 500 km COUNT 3 ANY ASC WITHDIST | GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 500 km ANY | GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 500 km COUNT 0 | GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 500 km COUNT -1
+ GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 500 km COUNT x | GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 500 km COUNT | GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 500 km FOO | GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 500 yd | GEOSEARCH g FROMLONLAT 15 37 BYRADIUS x km | GEOSEARCH g FROMLONLAT 15 37 BYRADIUS -1 km | GEOSEARCH g FROMLONLAT 15 37 BYBOX x 1 km | GEOSEARCH g FROMLONLAT 15 37 BYBOX 1 x km | GEOSEARCH g FROMLONLAT 15 37 BYBOX -1 1 km | GEOSEARCH g FROMLONLAT 15 37 BYBOX 1 -1 km | GEOSEARCH g FROMLONLAT 15 37 BYBOX 1 1 yd
+ GEOSEARCH g FROMLONLAT 200 37 BYRADIUS 1 km | GEOSEARCH g FROMLONLAT x 37 BYRADIUS 1 km | GEOSEARCH g FROMMEMBER nope BYRADIUS 1 km | GEOSEARCH g FROMMEMBER nope BYRADIUS x km | GEOSEARCH g BYRADIUS x km FROMMEMBER nope | GEOSEARCH nokey FROMMEMBER nope BYRADIUS 1 km | GEOSEARCH nokey FROMMEMBER nope BYRADIUS x km | GEOSEARCH nokey FROMLONLAT 1 1 BYRADIUS 1 km | GEOSEARCH nokey FROMLONLAT 1 1 BYRADIUS 1 km ANY
+ GEOSEARCH g FROMLONLAT 1 1 ASC DESC WITHDIST | GEOSEARCH g BYRADIUS 1 km ASC DESC WITHDIST | geoSearch g BYBOX 1 1 km ASC DESC | GEOSEARCH g FROMMEMBER Palermo FROMLONLAT 1 1 BYRADIUS 1 km | GEOSEARCH g FROMLONLAT 1 1 FROMMEMBER Palermo BYRADIUS 1 km | GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 1 km BYBOX 1 1 km | GEOSEARCH g FROMLONLAT 15 37 BYBOX 1 1 km BYRADIUS 1 km | GEOSEARCH g FROMMEMBER edge1 FROMMEMBER Palermo BYRADIUS 1 km | GEOSEARCH g FROMLONLAT 1 1 FROMLONLAT 15 37 BYRADIUS 1 m BYRADIUS 200 km
+ GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km STORE d | GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km STOREDIST d | GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 | GEOSEARCH g FROMLONLAT 15 BYRADIUS 200 km | GEOSEARCH g | GEOSEARCH | GEOSEARCH g FROMMEMBER Palermo BYRADIUS | GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km WITHDIST WITHDIST ASC DESC ASC
{SICILY} | GEOSEARCHSTORE d g FROMLONLAT 15 37 BYBOX 400 400 km ASC COUNT 3 | ZRANGE d 0 -1 WITHSCORES | GEOSEARCHSTORE d g FROMLONLAT 15 37 BYBOX 400 400 km STOREDIST | ZRANGE d 0 -1 WITHSCORES | GEOSEARCHSTORE d g FROMMEMBER Palermo BYRADIUS 1 mi STOREDIST | ZRANGE d 0 -1 WITHSCORES | GEOSEARCHSTORE d g FROMLONLAT 0 0 BYRADIUS 1 m | EXISTS d | GEOSEARCHSTORE d nokey FROMLONLAT 0 0 BYRADIUS 1 m | SET d v
+ GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 200 km | TYPE d | GEOSEARCHSTORE d nokey FROMMEMBER x BYRADIUS 1 m | EXISTS d | GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 200 km WITHDIST | GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 200 km WITHCOORD | GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 200 km WITHHASH | GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 200 km STORE x | GEOSEARCHSTORE d g FROMMEMBER nope BYRADIUS 1 km | GEOSEARCHSTORE d g ASC DESC WITHHASH ANY COUNT 1
+ GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 200 km COUNT 1 ANY | ZCARD d | GEOSEARCHSTORE g g FROMLONLAT 15 37 BYRADIUS 200 km | ZRANGE g 0 -1 | GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 200 | geosearchstore d g BYRADIUS 1 km COUNT 1 ASC
{SICILY} | GEORADIUS g 15 37 200 km ASC | GEORADIUS g 15 37 200 km WITHDIST WITHCOORD WITHHASH DESC | GEORADIUS g 15 37 200 km COUNT 1 | GEORADIUS g 15 37 200 km COUNT 2 ANY | GEORADIUS g 15 37 200 km STORE d | ZRANGE d 0 -1 WITHSCORES | GEORADIUS g 15 37 200 km STOREDIST d | ZRANGE d 0 -1 WITHSCORES | GEORADIUS g 15 37 200 km STORE d WITHDIST | GEORADIUS g 15 37 200 km STORE | GEORADIUS g 15 37 200 km STORE a STOREDIST b | EXISTS a b | GEORADIUS g 0 0 1 m STORE d | EXISTS d
+ GEORADIUS g x 37 200 km | GEORADIUS g 15 37 x km | GEORADIUS g 15 37 -1 km | GEORADIUS g 15 37 200 yd | GEORADIUS g 200 37 200 km | GEORADIUS nokey 15 37 200 km | GEORADIUS nokey 15 37 x km | GEORADIUS nokey 15 37 200 km STORE b | EXISTS b | GEORADIUS g 15 37 200 km FROMMEMBER Palermo | GEORADIUS g 15 37 200 km BYBOX 1 1 km | GEORADIUS g 15 37 200 | GEORADIUS g 15 37 200 km FOO | GEORADIUS_RO g 15 37 200 km ASC WITHDIST | GEORADIUS_RO g 15 37 200 km STORE d | GEORADIUS_RO g 15 37 200 km STOREDIST d
+ GEORADIUSBYMEMBER g Palermo 200 km ASC | GEORADIUSBYMEMBER g Palermo 200 km WITHDIST COUNT 2 DESC | GEORADIUSBYMEMBER g nope 200 km | GEORADIUSBYMEMBER g nope x km | GEORADIUSBYMEMBER nokey nope 200 km | GEORADIUSBYMEMBER nokey nope x yd | GEORADIUSBYMEMBER nokey nope 1 km FOO | GEORADIUSBYMEMBER nokey nope 1 km ANY | GEORADIUSBYMEMBER g Palermo x km | GEORADIUSBYMEMBER g Palermo 200 km STORE d | ZCARD d | GEORADIUSBYMEMBER g Palermo 200 km STOREDIST d | ZRANGE d 0 -1 WITHSCORES
+ GEORADIUSBYMEMBER_RO g Palermo 200 km | GEORADIUSBYMEMBER_RO g Palermo 200 km STORE d | GEORADIUSBYMEMBER_RO g Palermo | GEORADIUSBYMEMBER g Palermo 200 | GEORADIUS | GEORADIUS_RO g | GEORADIUSBYMEMBER g | GEORADIUSBYMEMBER_RO g Palermo 1 km COUNT 1 ANY ANY
MULTI | {SICILY} | GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km ASC | GEOSEARCH g FROMMEMBER Palermo BYRADIUS 200 km ASC | GEOPOS g Palermo | GEOSEARCHSTORE d g FROMMEMBER Palermo BYRADIUS 500 km | GEORADIUS g 15 37 200 km STORE d2 | GEORADIUSBYMEMBER_RO g Palermo 200 km | GEOSEARCH g FROMMEMBER nope BYRADIUS 200 km | GEOSEARCH g FOO a b c d e | ZCARD d | EXEC | ZRANGE d2 0 -1
COMMAND GETKEYS georadius k 1 2 3 km store d | COMMAND GETKEYS georadius k 1 2 3 km storedist d store e | COMMAND GETKEYS georadius k 1 2 3 km | COMMAND GETKEYS georadiusbymember k m 3 km store d | COMMAND GETKEYS geosearchstore d s frommember a byradius 1 km | COMMAND GETKEYS geosearch s frommember a byradius 1 km | COMMAND GETKEYS geoadd k 1 1 a | COMMAND GETKEYS georadius_ro k 1 2 3 km
COMMAND INFO geoadd | COMMAND INFO geodist geohash geopos | COMMAND INFO georadius_ro georadiusbymember_ro | COMMAND INFO geosearch | COMMAND INFO geosearchstore | COMMAND INFO georadius | COMMAND INFO georadiusbymember
"""

UNITS = {"m": 1.0, "km": 1000.0, "ft": 0.3048, "mi": 1609.34}


def searches(dice, centre, reach_m):
    """Two searches around a centre: a circle and a box, with options that dice choose."""
    for shape, numbers in (("BYRADIUS", 1), ("BYBOX", 2)):
        unit = dice.choice(list(UNITS))
        sides = " ".join(f"{reach_m * dice.uniform(0.5, 2) / UNITS[unit]:.3f}" for _ in range(numbers))
        order = dice.choice(["", "ASC", "DESC"])
        # Of an order that nobody asked for, the first with ANY are those that Redis finds first.
        count = dice.choice(["", f"COUNT {dice.randrange(1, 9)}", f"COUNT {dice.randrange(1, 9)} ANY"])
        told = dice.choice(["", "WITHDIST", "WITHCOORD WITHHASH", "WITHDIST WITHHASH WITHCOORD"])
        yield f"GEOSEARCH g {centre} {shape} {sides} {unit} {order} {count} {told}"


def at_random():
    """Places all over the map, and crowds of them, searched from near and far."""
    dice = random.Random(20)
    lines = []
    for crowd in range(12):
        lon, lat = dice.uniform(-180, 180), dice.uniform(-85, 85)
        spread = dice.choice([0.01, 1, 20, 400])
        line, names = ["GEOADD g"], []
        for n in range(160):
            # No two in one place: which of two that are as near comes first is nobody's promise.
            x = (lon + dice.uniform(-spread, spread) + 180) % 360 - 180
            y = dice.uniform(max(-85.05, lat - spread / 2), min(85.05, lat + spread / 2))
            names.append(f"p{n}")
            line.append(f"{x:.6f} {y:.6f} p{n}")
        commands = [" ".join(line), f"GEOPOS g {' '.join(names[:20])}", f"GEOHASH g {' '.join(names[:20])}"]
        commands += [f"GEODIST g {a} {b} {dice.choice(list(UNITS))}" for a, b in zip(names[:12], names[20:])]
        for reach_m in (spread * 300, spread * 3000, spread * 30000, spread * 100000):
            place = f"FROMLONLAT {lon:.4f} {lat:.4f}"
            for centre in (place, f"FROMMEMBER {dice.choice(names)}"):
                commands += searches(dice, centre, reach_m)
        commands.append(f"GEOSEARCHSTORE d g FROMMEMBER {names[3]} BYRADIUS {spread * 50} km STOREDIST")
        commands.append("ZRANGE d 0 -1 WITHSCORES")
        lines.append(" | ".join(commands))
    return "\n".join(lines) + "\n"


GEO = BY_HAND.lstrip() + at_random()
