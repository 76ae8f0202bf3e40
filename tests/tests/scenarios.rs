//! What the engine does, one behaviour at a time.

use tests::scenario::check;

#[test]
fn a_limit_order_rests_and_holds_what_it_may_need() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > alice buy 3 @ 100
         accepted #1
         bids 100: 3
         alice USD: 700 free, 300 locked",
    );
}

#[test]
fn a_taker_trades_at_the_makers_price_and_gets_the_improvement_back() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > deposit bob 5 X
         bob X: 5 free, 0 locked
         > bob sell 5 @ 90
         accepted #1
         asks 90: 5
         bob X: 0 free, 5 locked
         > alice buy 2 @ 100
         accepted #2
         trade 2 @ 90: alice #2 takes from bob #1
         asks 90: 3
         alice USD: 820 free, 0 locked
         bob USD: 180 free, 0 locked
         bob X: 0 free, 3 locked
         alice X: 2 free, 0 locked",
    );
}

#[test]
fn price_then_time_decides_who_trades_first() {
    check(
        "> deposit alice 9 X
         alice X: 9 free, 0 locked
         > deposit bob 9 X
         bob X: 9 free, 0 locked
         > deposit carol 5000 USD
         carol USD: 5000 free, 0 locked
         > alice sell 2 @ 101
         accepted #1
         asks 101: 2
         alice X: 7 free, 2 locked
         > bob sell 2 @ 100
         accepted #2
         asks 100: 2
         bob X: 7 free, 2 locked
         > alice sell 2 @ 100
         accepted #3
         asks 100: 4
         alice X: 5 free, 4 locked
         > carol buy 5 @ 101
         accepted #4
         trade 2 @ 100: carol #4 takes from bob #2
         trade 2 @ 100: carol #4 takes from alice #3
         asks 100: 0
         trade 1 @ 101: carol #4 takes from alice #1
         asks 101: 1
         carol USD: 4499 free, 0 locked
         bob USD: 200 free, 0 locked
         bob X: 7 free, 0 locked
         carol X: 5 free, 0 locked
         alice USD: 301 free, 0 locked
         alice X: 5 free, 1 locked",
    );
}

#[test]
fn what_an_ioc_order_cannot_trade_expires_and_is_released() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > deposit bob 5 X
         bob X: 5 free, 0 locked
         > bob sell 2 @ 100
         accepted #1
         asks 100: 2
         bob X: 3 free, 2 locked
         > alice buy 5 @ 100 ioc
         accepted #2
         trade 2 @ 100: alice #2 takes from bob #1
         asks 100: 0
         expired #2 after 2: UnfilledIocQuantity
         alice USD: 800 free, 0 locked
         bob USD: 200 free, 0 locked
         bob X: 3 free, 0 locked
         alice X: 2 free, 0 locked",
    );
}

#[test]
fn a_fok_order_trades_whole_or_not_at_all() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > deposit bob 5 X
         bob X: 5 free, 0 locked
         > bob sell 4 @ 100
         accepted #1
         asks 100: 4
         bob X: 1 free, 4 locked
         > alice buy 5 @ 100 fok
         accepted #2
         expired #2 after 0: UnfilledFok
         alice USD: 1000 free, 0 locked
         > alice buy 4 @ 100 fok
         accepted #3
         trade 4 @ 100: alice #3 takes from bob #1
         asks 100: 0
         alice USD: 600 free, 0 locked
         bob USD: 400 free, 0 locked
         bob X: 1 free, 0 locked
         alice X: 4 free, 0 locked",
    );
}

#[test]
fn a_post_only_order_that_would_trade_is_rejected() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > deposit bob 5 X
         bob X: 5 free, 0 locked
         > bob sell 4 @ 100
         accepted #1
         asks 100: 4
         bob X: 1 free, 4 locked
         > alice buy 1 @ 100 post-only
         rejected: WouldMatchImmediately
         > alice buy 1 @ 99 post-only
         accepted #2
         bids 99: 1
         alice USD: 901 free, 99 locked",
    );
}

#[test]
fn a_market_order_takes_what_is_there_and_the_rest_expires() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > deposit bob 5 X
         bob X: 5 free, 0 locked
         > bob sell 2 @ 100
         accepted #1
         asks 100: 2
         bob X: 3 free, 2 locked
         > alice market buy 5
         accepted #2
         trade 2 @ 100: alice #2 takes from bob #1
         asks 100: 0
         expired #2 after 2: InsufficientLiquidity
         alice USD: 800 free, 0 locked
         bob USD: 200 free, 0 locked
         bob X: 3 free, 0 locked
         alice X: 2 free, 0 locked",
    );
}

#[test]
fn a_market_order_by_quote_buys_the_whole_lots_it_can_pay() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > deposit bob 50 X
         bob X: 50 free, 0 locked
         > bob sell 2 @ 100
         accepted #1
         asks 100: 2
         bob X: 48 free, 2 locked
         > bob sell 9 @ 150
         accepted #2
         asks 150: 9
         bob X: 39 free, 11 locked
         > alice market buy for 600
         accepted #3
         trade 2 @ 100: alice #3 takes from bob #1
         asks 100: 0
         trade 2 @ 150: alice #3 takes from bob #2
         asks 150: 7
         alice USD: 500 free, 0 locked
         bob USD: 500 free, 0 locked
         bob X: 39 free, 7 locked
         alice X: 4 free, 0 locked
         > alice market buy for 501
         rejected: InsufficientBalance
         > alice market buy for 149
         rejected: LotSize",
    );
}

#[test]
fn a_market_order_that_the_balance_cannot_sweep_is_rejected_whole() {
    check(
        "> deposit alice 250 USD
         alice USD: 250 free, 0 locked
         > deposit bob 5 X
         bob X: 5 free, 0 locked
         > bob sell 3 @ 100
         accepted #1
         asks 100: 3
         bob X: 2 free, 3 locked
         > alice market buy 3
         rejected: InsufficientBalance",
    );
}

#[test]
fn partial_fill_then_cancel_releases_the_remainder() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > deposit bob 5 X
         bob X: 5 free, 0 locked
         > alice buy 5 @ 100 as mine
         accepted #1
         bids 100: 5
         alice USD: 500 free, 500 locked
         > bob sell 2 @ 100
         accepted #2
         trade 2 @ 100: bob #2 takes from alice #1
         bids 100: 3
         bob X: 3 free, 0 locked
         alice USD: 500 free, 300 locked
         bob USD: 200 free, 0 locked
         alice X: 2 free, 0 locked
         > bob cancel #1
         rejected: UnknownOrder
         > alice cancel mine
         canceled #1 with 3 open
         bids 100: 0
         alice USD: 800 free, 0 locked
         > alice cancel mine
         rejected: UnknownOrder",
    );
}

#[test]
fn cancel_all_takes_the_users_orders_only_oldest_first() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > deposit bob 1000 USD
         bob USD: 1000 free, 0 locked
         > alice buy 1 @ 100
         accepted #1
         bids 100: 1
         alice USD: 900 free, 100 locked
         > bob buy 1 @ 100
         accepted #2
         bids 100: 2
         bob USD: 900 free, 100 locked
         > alice buy 2 @ 50
         accepted #3
         bids 50: 2
         alice USD: 800 free, 200 locked
         > alice cancel all
         canceled #1 with 1 open
         bids 100: 1
         canceled #3 with 2 open
         bids 50: 0
         alice USD: 1000 free, 0 locked
         > alice cancel all
         rejected: UnknownOrder",
    );
}

#[test]
fn an_amend_lowers_the_quantity_and_keeps_the_place_in_the_queue() {
    check(
        "> deposit alice 10 X
         alice X: 10 free, 0 locked
         > deposit bob 10 X
         bob X: 10 free, 0 locked
         > deposit carol 1000 USD
         carol USD: 1000 free, 0 locked
         > alice sell 5 @ 100
         accepted #1
         asks 100: 5
         alice X: 5 free, 5 locked
         > bob sell 5 @ 100
         accepted #2
         asks 100: 10
         bob X: 5 free, 5 locked
         > alice amend #1 to 5
         rejected: AmendQuantity
         > alice amend #1 to 2
         amended #1 to 2
         asks 100: 7
         alice X: 8 free, 2 locked
         > carol buy 3 @ 100
         accepted #3
         trade 2 @ 100: carol #3 takes from alice #1
         trade 1 @ 100: carol #3 takes from bob #2
         asks 100: 4
         carol USD: 700 free, 0 locked
         alice USD: 200 free, 0 locked
         alice X: 8 free, 0 locked
         carol X: 3 free, 0 locked
         bob USD: 100 free, 0 locked
         bob X: 5 free, 4 locked
         > bob amend #2 to 1
         rejected: AmendQuantity",
    );
}

#[test]
fn each_side_pays_its_fee_out_of_what_it_receives() {
    check(
        "> fees maker 1% taker 2%
         > deposit alice 100000 USD
         alice USD: 100000 free, 0 locked
         > deposit bob 500 X
         bob X: 500 free, 0 locked
         > bob sell 500 @ 100
         accepted #1
         asks 100: 500
         bob X: 0 free, 500 locked
         > alice buy 500 @ 100
         accepted #2
         trade 500 @ 100: alice #2 takes from bob #1
         asks 100: 0
         alice USD: 50000 free, 0 locked
         bob USD: 49500 free, 0 locked
         fees USD: 500 free, 0 locked
         bob X: 0 free, 0 locked
         alice X: 490 free, 0 locked
         fees X: 10 free, 0 locked",
    );
}

#[test]
fn a_name_is_unique_among_open_orders_and_free_again_after() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > alice buy 1 @ 100 as mine
         accepted #1
         bids 100: 1
         alice USD: 900 free, 100 locked
         > alice buy 1 @ 90 as mine
         rejected: DuplicateOrder
         > alice cancel #1
         canceled #1 with 1 open
         bids 100: 0
         alice USD: 1000 free, 0 locked
         > alice buy 1 @ 90 as mine
         accepted #2
         bids 90: 1
         alice USD: 910 free, 90 locked",
    );
}

#[test]
fn a_transfer_takes_effect_once() {
    check(
        "> deposit alice 100 USD
         alice USD: 100 free, 0 locked
         > deposit alice 100 USD
         repeated
         > withdraw alice 101 USD
         rejected: InsufficientBalance
         > withdraw alice 40 USD
         alice USD: 60 free, 0 locked
         > withdraw alice 40 USD
         repeated",
    );
}

#[test]
fn a_halted_symbol_takes_cancels_only() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > alice buy 2 @ 100
         accepted #1
         bids 100: 2
         alice USD: 800 free, 200 locked
         > halt
         > alice buy 1 @ 100
         rejected: MarketClosed
         > alice amend #1 to 1
         rejected: MarketClosed
         > alice cancel #1
         canceled #1 with 2 open
         bids 100: 0
         alice USD: 1000 free, 0 locked
         > resume
         > alice buy 1 @ 100
         accepted #2
         bids 100: 1
         alice USD: 900 free, 100 locked",
    );
}

#[test]
fn an_order_below_the_notional_is_rejected() {
    check(
        "> min notional 100
         > deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > alice buy 9 @ 11
         rejected: Notional
         > alice buy 10 @ 10
         accepted #1
         bids 10: 10
         alice USD: 900 free, 100 locked",
    );
}
