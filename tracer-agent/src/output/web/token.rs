//! The token: what a browser has to know to see the page of an agent that listens beyond loopback.

use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};

use rustix::rand::{GetRandomFlags, getrandom};
use subtle::ConstantTimeEq as _;

/// Characters of a token.
const LENGTH: std::ops::RangeInclusive<usize> = 16..=256;
/// Bytes of randomness in a generated one.
const RANDOM: usize = 16;

/// A secret. It is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// There is no token where one is needed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("cannot read the token of --web-token-file {path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error(
        "{path}, of --web-token-file, holds no token: one line of {} to {} letters, digits, `-`, `.`, `_` or `~`, such \
         as `openssl rand -hex 16` writes",
        LENGTH.start(), LENGTH.end()
    )]
    Unfit { path: PathBuf },
    #[error("the kernel gives no random bytes for a token: {0}")]
    Random(io::Error),
}

// === impl Token ===

impl Token {
    /// The one line of a file.
    ///
    /// # Errors
    /// If it cannot be read, or holds what cannot stand in a URL as it is.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| TokenError::Io { path: path.to_owned(), error })?;
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        let text = text.trim();
        if !LENGTH.contains(&text.len()) || !text.bytes().all(fits) {
            return Err(TokenError::Unfit { path: path.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }

    /// A new one.
    ///
    /// # Errors
    /// If the kernel has no random bytes.
    pub fn generate() -> Result<Self, TokenError> {
        random_hex().map(Self).map_err(TokenError::Random)
    }

    /// Whether that is it. How long the answer takes says nothing of where they differ.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }

    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Something that nobody can guess, of hexadecimal digits.
pub(super) fn random_hex() -> io::Result<String> {
    let mut bytes = [0; RANDOM];
    // So few bytes come whole.
    if getrandom(&mut bytes, GetRandomFlags::empty())? < RANDOM {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_itself_alone() {
        let token = Token::generate().unwrap();
        let text = token.reveal().to_owned();
        assert_eq!(text.len(), 32);
        assert!(token.is(&text));
        assert!(!token.is("") && !token.is(&text[1..]) && !token.is(&text.replace(&text[..1], "x")));
        assert_ne!(token, Token::generate().unwrap());
        assert_eq!(format!("{token:?}"), "Token");
    }

    #[test]
    fn a_file_holds_one_that_can_stand_in_a_url() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(Token::read(&path).unwrap_err().to_string().contains("cannot read"));
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        assert!(Token::read(&path).unwrap().is("0123456789abcdef"));
        for unfit in ["", "short\n", "two words of a token", "0123456789abcdef&a=b"] {
            std::fs::write(&path, unfit).unwrap();
            let error = Token::read(&path).unwrap_err().to_string();
            assert!(error.contains("holds no token") && error.contains("openssl"), "{error}");
        }
    }
}
