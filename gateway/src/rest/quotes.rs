//! Reference prices for quote-driven symbols, from whoever collects them outside.

use std::sync::Arc;

use engine::command::{Command, ReferenceQuote};
use engine::order::ClientOrderId;
use engine::{Event, Rejection, Time};
use serde_json::json;

use super::error::ApiError;
use super::outcome::{answer_with, send};
use super::trade::parse_time;
use super::{Call, Handling, to_json};
use crate::app::App;
use crate::wire::Numbers;

/// Who says a price that names nobody.
const UNNAMED: &str = "unnamed";

/// POST referenceQuote.
pub fn quote(app: &Arc<App>, mut call: Call) -> Handling {
    let sent = (|| {
        let catalog = app.outlets.views.symbols();
        let symbol = call.params.symbol(&catalog)?;
        let scale = Numbers::new(symbol, &catalog, call.unit).quote_scale();
        let (bid, ask) = match call.params.decimal("price", scale)? {
            Some(price) => (price, price),
            None => {
                (call.params.required_decimal("bidPrice", scale)?, call.params.required_decimal("askPrice", scale)?)
            }
        };
        let outside_time = parse_time(&mut call.params, "sourceTime")?.unwrap_or(call.now);
        let source = call.params.optional("source")?;
        let source = ClientOrderId::new(source.as_deref().unwrap_or(UNNAMED));
        let source = source.ok_or_else(|| ApiError::illegal_characters("source", SOURCE))?;
        std::mem::take(&mut call.params).finish()?;
        let quote = ReferenceQuote { symbol: symbol.id, bid, ask, outside_time, source };
        send(app, &call, &catalog, symbol.id, Command::ReferenceQuote(quote))
    })();
    answer_with(sent, |answer, telling| {
        let numbers = &telling.numbers;
        match answer.events().first() {
            Some(Event::Rejected(rejection)) => Err(refused(*rejection)),
            Some(Event::QuoteChanged(quote)) => Ok(to_json(&json!({
                "symbol": numbers.symbol.config.name,
                "bidPrice": quote.bid.map(|bid| numbers.price(bid)),
                "askPrice": numbers.price(quote.ask),
                "source": quote.source,
                "sourceTime": numbers.time(Time(quote.outside_time.0)),
                "time": numbers.time(answer.applied.time),
            }))),
            _ => Err(ApiError::internal()),
        }
    })
}

/// What may stand in the name of a source.
const SOURCE: &str = "^[a-zA-Z0-9-_.:/]{1,36}$";

fn refused(rejection: Rejection) -> ApiError {
    match rejection {
        Rejection::NotQuoteDriven => ApiError::not_quote_driven(),
        Rejection::InvalidQuote => ApiError::invalid_quote(),
        Rejection::QuoteOutdated => ApiError::outdated_quote(),
        other => ApiError::order_rejected(other),
    }
}
