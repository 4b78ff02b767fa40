//! The closed lists of a verdict as JSON strings and as words on the command line.
//!
//! Only the spelling; the lists themselves, with their names, are in `verdict::cause`.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::verdict::{By, Cause, Confidence, How, Impact};

/// A word that is in none of the closed lists.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is no {list}: one of {known}")]
pub struct UnknownName {
    word: String,
    list: &'static str,
    known: String,
}

macro_rules! spelled {
    ($($type:ident is $list:literal,)+) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = String::deserialize(deserializer)?;
                word.parse().map_err(de::Error::custom)
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(word: &str) -> Result<Self, UnknownName> {
                Self::from_name(word).ok_or_else(|| UnknownName {
                    word: word.escape_debug().take(64).collect(),
                    list: $list,
                    known: Self::ALL.iter().map(|v| v.name()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    )+};
}

spelled! {
    By is "side",
    Cause is "cause",
    Impact is "impact",
    Confidence is "confidence",
    How is "way to end",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_survives_the_way_through_json() {
        for cause in Cause::ALL {
            let json = serde_json::to_string(cause).unwrap();
            assert_eq!(serde_json::from_str::<Cause>(&json).unwrap(), *cause);
        }
        for impact in Impact::ALL {
            assert_eq!(impact.name().parse::<Impact>().unwrap(), *impact);
        }
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_list() {
        let error = "me".parse::<By>().unwrap_err().to_string();
        assert_eq!(
            error,
            "`me` is no side: one of upstream, gateway, client, firewall, network, operator, unknown"
        );
    }
}
