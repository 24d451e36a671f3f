//! Finding fields that are written nearly like one that has a meaning. What gRPC does not know is ignored, so nothing else
//! says that they are without effect.

use std::cell::Cell;
use std::fmt;

use serde::de::value::Error as Stopped;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// More than these are not named: a registry may hold anything.
const MOST: usize = 16;

/// The fields of an object, or of each object in a list.
pub(super) struct Shape {
    known: &'static [&'static str],
    below: Vec<(&'static str, Shape)>,
}

impl Shape {
    /// The fields that a struct is read from.
    pub(super) fn of<'de, T: Deserialize<'de>>() -> Self {
        let known = Cell::default();
        // It stops as soon as it has said what it looks for.
        let _ = T::deserialize(Asked(&known));
        Self { known: known.get(), below: Vec::new() }
    }

    /// With the fields of what stands in one of them.
    pub(super) fn with(mut self, field: &'static str, below: Self) -> Self {
        self.below.push((field, below));
        self
    }

    /// The known field that this name means, as they are read: in any case.
    fn field(&self, name: &str) -> Option<&'static str> {
        self.known.iter().find(|known| known.eq_ignore_ascii_case(name)).copied()
    }

    /// The known field that was meant, probably, by a name that is none.
    fn near(&self, name: &str) -> Option<&'static str> {
        self.known.iter().find(|known| is_near(name, known)).copied()
    }
}

/// The paths of fields that are nearly a known one, each with that, such as `methodConfig[0].timeot (timeout?)`.
pub(super) fn misspelt(text: &str, shape: &Shape) -> Vec<String> {
    let mut found = Vec::new();
    // Whoever asks has read the text already.
    let _ = Walk { shape, path: String::new(), found: &mut found }
        .deserialize(&mut serde_json::Deserializer::from_str(text));
    found
}

/// Takes the names of the fields that a struct asks for.
struct Asked<'a>(&'a Cell<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = Stopped;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stopped> {
        Err(Stopped::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stopped> {
        self.0.set(known);
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Looks at one value.
struct Walk<'a> {
    shape: &'a Shape,
    path: String,
    found: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object, or a list of them")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let Self { shape, path, found } = self;
        while let Some(name) = fields.next_key::<String>()? {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let field = shape.field(&name);
            let below = shape.below.iter().find(|(below, _)| field == Some(*below));
            if let (None, Some(meant)) = (field, shape.near(&name))
                && found.len() < MOST
            {
                found.push(format!("{path} ({meant}?)"));
            }
            match below {
                Some((_, shape)) => fields.next_value_seed(Walk { shape, path, found: &mut *found })?,
                None => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { shape, path, found } = self;
        for index in 0.. {
            let path = format!("{path}[{index}]");
            if list.next_element_seed(Walk { shape, path, found: &mut *found })?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// `null` is nothing.
    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Whether one or two letters are wrong; in a short name, one: many words are two letters from `name`.
fn is_near(name: &str, known: &str) -> bool {
    let most = if known.len() < 8 { 1 } else { 2 };
    name.len() <= 4 * known.len() && distance(&letters(name), &letters(known)) <= most
}

fn letters(name: &str) -> Vec<char> {
    name.chars().map(|letter| letter.to_ascii_lowercase()).collect()
}

/// How many letters have to be added, taken away or replaced.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (place, compared) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != compared);
            diagonal = row[place + 1];
            row[place + 1] = replaced.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row[other.len()]
}
