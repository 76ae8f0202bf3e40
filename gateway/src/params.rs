//! The parameters of a request: names and texts, however they came, and the documented complaint about each.
//!
//! A handler takes what it knows and then calls [`Params::finish`], so that what nobody knows is refused too.

use engine::Amount;
use engine::symbol::Symbol;

use crate::rest::error::ApiError;
use crate::views::Catalog;

/// The most parameters that a request may have.
const PARAMETERS_MAX: usize = 100;
const LEGAL_INTEGER: &str = "^[0-9]{1,20}$";
const LEGAL_DECIMAL: &str = "^([0-9]{1,20})(\\.[0-9]{1,20})?$";
const LEGAL_SYMBOL: &str = "^[A-Z0-9-_.]{1,20}$";

/// The parameters that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Params {
    pairs: Vec<(String, String)>,
    taken: usize,
}

impl Params {
    /// From pairs of name and text. A name that comes twice is an error.
    pub fn from_pairs(pairs: Vec<(String, String)>) -> Result<Params, ApiError> {
        if pairs.len() > PARAMETERS_MAX {
            return Err(ApiError::too_many_parameters());
        }
        for (at, (name, _)) in pairs.iter().enumerate() {
            if name.is_empty() {
                return Err(ApiError::nameless_parameter());
            }
            if pairs[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(ApiError::duplicate_parameter());
            }
        }
        Ok(Params { pairs, taken: 0 })
    }

    /// From a query string and a form body. Where a name is in both, the query string wins (rest-api.md, "General
    /// information on endpoints").
    pub fn from_request(query: &str, body: &[u8]) -> Result<Params, ApiError> {
        let mut params = Params::from_pairs(parse_form(query.as_bytes())?)?;
        let body = Params::from_pairs(parse_form(body)?)?;
        for (name, text) in body.pairs {
            if !params.pairs.iter().any(|(known, _)| *known == name) {
                params.pairs.push((name, text));
            }
        }
        Ok(params)
    }

    /// The text of a parameter, if it was sent.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(known, _)| known == name)?;
        self.taken += 1;
        Some(self.pairs.swap_remove(at).1)
    }

    /// The text of a parameter, which stays to be taken.
    pub fn peek(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
    }

    /// Gives a parameter, if it was sent, another name.
    pub fn rename(&mut self, from: &str, to: String) {
        if let Some((name, _)) = self.pairs.iter_mut().find(|(name, _)| name == from) {
            *name = to;
        }
    }

    /// Adds what the request says in another way.
    pub fn put(&mut self, name: String, text: String) {
        self.pairs.push((name, text));
    }

    /// The text of a parameter that may be left out but not be empty.
    pub fn optional(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            Some(text) if text.is_empty() => Err(ApiError::empty_parameter(name)),
            text => Ok(text),
        }
    }

    /// The text of a parameter that must be there.
    pub fn required(&mut self, name: &str) -> Result<String, ApiError> {
        self.take(name).filter(|text| !text.is_empty()).ok_or_else(|| ApiError::missing_parameter(name))
    }

    /// A whole number that may be left out.
    pub fn integer(&mut self, name: &str) -> Result<Option<u64>, ApiError> {
        self.optional(name)?.map(|text| parse_integer(name, &text)).transpose()
    }

    /// A whole number that must be there.
    pub fn required_integer(&mut self, name: &str) -> Result<u64, ApiError> {
        let text = self.required(name)?;
        parse_integer(name, &text)
    }

    /// How many rows are asked for: `default` when not said, and never more than `max`.
    pub fn limit(&mut self, default: usize, max: usize) -> Result<usize, ApiError> {
        match self.integer("limit")? {
            None => Ok(default),
            Some(0) => Err(ApiError::bad_limit()),
            Some(limit) => Ok(usize::try_from(limit).unwrap_or(max).min(max)),
        }
    }

    /// A decimal number as a count of units of 10^-`scale`; more decimals than that are refused.
    pub fn decimal(&mut self, name: &str, scale: u8) -> Result<Option<Amount>, ApiError> {
        self.optional(name)?.map(|text| parse_decimal(name, &text, scale)).transpose()
    }

    /// A decimal number that must be there.
    pub fn required_decimal(&mut self, name: &str, scale: u8) -> Result<Amount, ApiError> {
        let text = self.required(name)?;
        parse_decimal(name, &text, scale)
    }

    /// `true` or `false`, in any case of letters.
    pub fn boolean(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.optional(name)?.map(|text| text.to_ascii_lowercase()).as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(ApiError::bad_data(name)),
        }
    }

    /// One of a few words, which `parse` knows; `complaint` otherwise.
    pub fn word<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Option<T>,
        complaint: fn() -> ApiError,
    ) -> Result<Option<T>, ApiError> {
        self.optional(name)?.map(|text| parse(&text).ok_or_else(complaint)).transpose()
    }

    /// The symbol that `symbol` names, which must be there and be listed.
    pub fn symbol<'a>(&mut self, catalog: &'a Catalog) -> Result<&'a Symbol, ApiError> {
        let name = self.required("symbol")?;
        find_symbol(&name, catalog)
    }

    /// The symbols that `symbol` or `symbols` name; `None` when neither was sent.
    pub fn symbols<'a>(&mut self, catalog: &'a Catalog) -> Result<Option<Vec<&'a Symbol>>, ApiError> {
        let (one, several) = (self.optional("symbol")?, self.optional("symbols")?);
        match (one, several) {
            (Some(_), Some(_)) => Err(ApiError::bad_combination()),
            (Some(name), None) => Ok(Some(vec![find_symbol(&name, catalog)?])),
            (None, Some(list)) => {
                let names: Vec<String> = serde_json::from_str(&list).map_err(|_| {
                    ApiError::illegal_characters(
                        "symbols",
                        "^\\[(\"[A-Z0-9-_.]{1,20}\"(,\"[A-Z0-9-_.]{1,20}\"){0,}){0,1}\\]$",
                    )
                })?;
                let symbols: Vec<&Symbol> =
                    names.iter().map(|name| find_symbol(name, catalog)).collect::<Result<_, _>>()?;
                let mut ids: Vec<_> = symbols.iter().map(|symbol| symbol.id).collect();
                ids.sort_unstable();
                if ids.windows(2).any(|pair| pair[0] == pair[1]) {
                    return Err(ApiError::duplicate_symbols());
                }
                Ok(Some(symbols))
            }
            (None, None) => Ok(None),
        }
    }

    /// Whether everything sent was taken; the complaint otherwise.
    pub fn finish(self) -> Result<(), ApiError> {
        match self.pairs.len() {
            0 => Ok(()),
            left => Err(ApiError::unread_parameters(self.taken, self.taken + left)),
        }
    }
}

fn find_symbol<'a>(name: &str, catalog: &'a Catalog) -> Result<&'a Symbol, ApiError> {
    if let Some(symbol) = catalog.symbol(name) {
        return Ok(symbol);
    }
    // Names need not be ASCII, so only what can never be part of one is called illegal.
    let illegal = |letter: char| {
        letter.is_ascii() && !letter.is_ascii_uppercase() && !letter.is_ascii_digit() && !"-_.".contains(letter)
    };
    if name.chars().count() > 20 || name.chars().any(illegal) {
        return Err(ApiError::illegal_characters("symbol", LEGAL_SYMBOL));
    }
    Err(ApiError::invalid_symbol())
}

fn parse_integer(name: &str, text: &str) -> Result<u64, ApiError> {
    if text.is_empty() || text.len() > 20 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ApiError::illegal_characters(name, LEGAL_INTEGER));
    }
    // Twenty digits may still be more than 64 bits hold.
    text.parse().map_err(|_| ApiError::overflow(name))
}

/// `text` as a count of units of 10^-`scale`.
pub fn parse_decimal(name: &str, text: &str, scale: u8) -> Result<Amount, ApiError> {
    let illegal = || ApiError::illegal_characters(name, LEGAL_DECIMAL);
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| (1..=20).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) {
        return Err(illegal());
    }
    let decimals = decimals.trim_end_matches('0');
    let missing = usize::from(scale).checked_sub(decimals.len()).ok_or_else(|| ApiError::too_precise(name))?;
    // At most 20 + 18 digits: it fits.
    let all = format!("{whole}{decimals}{}", "0".repeat(missing));
    all.parse().map(Amount).map_err(|_| ApiError::overflow(name))
}

/// The pairs of `a=1&b=2`, percent-decoded.
fn parse_form(bytes: &[u8]) -> Result<Vec<(String, String)>, ApiError> {
    let parts = bytes.split(|byte| *byte == b'&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let at = part.iter().position(|byte| *byte == b'=').unwrap_or(part.len());
            let (name, text) = part.split_at(at);
            Ok((percent_decode(name)?, percent_decode(text.get(1..).unwrap_or_default())?))
        })
        .collect()
}

fn percent_decode(bytes: &[u8]) -> Result<String, ApiError> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (rest.next().copied(), rest.next().copied());
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = digit(high).zip(digit(low)).ok_or_else(ApiError::illegal_encoding)?;
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).map_err(|_| ApiError::illegal_encoding())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code<T: std::fmt::Debug>(result: Result<T, ApiError>) -> i32 {
        result.unwrap_err().code
    }

    #[test]
    fn the_query_string_wins_over_the_body() {
        let mut params = Params::from_request("a=1&b=%C3%A9", b"a=2&c=x+y").unwrap();
        assert_eq!(params.take("a").as_deref(), Some("1"));
        assert_eq!(params.take("b").as_deref(), Some("é"));
        assert_eq!(params.take("c").as_deref(), Some("x y"));
        params.finish().unwrap();
    }

    #[test]
    fn what_nobody_takes_is_refused() {
        let mut params = Params::from_request("a=1&b=2&c=3", b"").unwrap();
        params.take("b");
        let error = params.finish().unwrap_err();
        assert_eq!(error.code, -1104);
        assert_eq!(error.message, "Not all sent parameters were read; read '1' parameter(s) but was sent '3'.");
    }

    #[test]
    fn a_name_that_comes_twice_is_refused() {
        assert_eq!(code(Params::from_request("a=1&a=1", b"")), -1101);
        assert_eq!(code(Params::from_request("", b"a=1&a=2")), -1101);
    }

    #[test]
    fn what_is_not_utf_8_or_not_percent_encoded_is_refused() {
        for query in ["a=%ff", "a=%4", "a=%zz", "%e2%82=1"] {
            assert_eq!(code(Params::from_request(query, b"")), -1100, "{query}");
        }
        assert_eq!(code(Params::from_request("", &[b'a', b'=', 0xff])), -1100);
    }

    #[test]
    fn decimals_are_exact_and_strict() {
        let parse = |text| parse_decimal("price", text, 8);
        assert_eq!(parse("1").unwrap(), Amount(100_000_000));
        assert_eq!(parse("0.00000001").unwrap(), Amount(1));
        assert_eq!(parse("1.500000000000").unwrap(), Amount(150_000_000));
        assert_eq!(code(parse("0.000000001")), -1111);
        for text in ["", "-1", "+1", "1e5", ".5", "1.", "1,5", " 1", "NaN", "0x1", &"9".repeat(40), &"9".repeat(21)] {
            assert_eq!(code(parse(text)), -1100, "{text}");
        }
        assert_eq!(parse_decimal("price", &"9".repeat(20), 18).unwrap().0, (10u128.pow(20) - 1) * 10u128.pow(18));
    }

    #[test]
    fn integers_are_strict() {
        assert_eq!(parse_integer("limit", "500").unwrap(), 500);
        for text in ["-1", "1.0", "a", &"1".repeat(21)] {
            assert_eq!(code(parse_integer("limit", text)), -1100, "{text}");
        }
        assert_eq!(code(parse_integer("orderId", "99999999999999999999")), -1108);
    }
}
