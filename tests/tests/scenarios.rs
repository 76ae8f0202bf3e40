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

// What most orders do not ask.

#[test]
fn a_stop_waits_for_its_price_and_then_takes_as_a_market_order() {
    check(
        "> deposit alice 10 X
         alice X: 10 free, 0 locked
         > deposit bob 1000 USD
         bob USD: 1000 free, 0 locked
         > deposit carol 10 X
         carol X: 10 free, 0 locked
         > bob buy 1 @ 100
         accepted #1
         bids 100: 1
         bob USD: 900 free, 100 locked
         > carol sell 1 @ 100
         accepted #2
         trade 1 @ 100: carol #2 takes from bob #1
         bids 100: 0
         carol X: 9 free, 0 locked
         bob USD: 900 free, 0 locked
         carol USD: 100 free, 0 locked
         bob X: 1 free, 0 locked
         > bob buy 2 @ 95
         accepted #3
         bids 95: 2
         bob USD: 710 free, 190 locked
         > bob buy 3 @ 90
         accepted #4
         bids 90: 3
         bob USD: 440 free, 460 locked
         > alice stop sell 4 at 101
         rejected: WouldTriggerImmediately
         > alice stop sell 4 at 95
         accepted #5
         alice X: 6 free, 4 locked
         > carol sell 1 @ 95
         accepted #6
         trade 1 @ 95: carol #6 takes from bob #3
         bids 95: 1
         triggered #5
         trade 1 @ 95: alice #5 takes from bob #3
         bids 95: 0
         trade 3 @ 90: alice #5 takes from bob #4
         bids 90: 0
         carol X: 8 free, 0 locked
         bob USD: 440 free, 0 locked
         carol USD: 195 free, 0 locked
         bob X: 6 free, 0 locked
         alice X: 6 free, 0 locked
         alice USD: 365 free, 0 locked",
    );
}

#[test]
fn a_stop_limit_order_rests_where_it_does_not_trade() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > deposit bob 10 X
         bob X: 10 free, 0 locked
         > deposit carol 1000 USD
         carol USD: 1000 free, 0 locked
         > bob sell 1 @ 105
         accepted #1
         asks 105: 1
         bob X: 9 free, 1 locked
         > alice take buy 2 at 100 limit 99
         accepted #2
         alice USD: 802 free, 198 locked
         > bob sell 1 @ 100
         accepted #3
         asks 100: 1
         bob X: 8 free, 2 locked
         > carol buy 2 @ 105
         accepted #4
         trade 1 @ 100: carol #4 takes from bob #3
         asks 100: 0
         trade 1 @ 105: carol #4 takes from bob #1
         asks 105: 0
         triggered #2
         bids 99: 2
         carol USD: 795 free, 0 locked
         bob USD: 205 free, 0 locked
         bob X: 8 free, 0 locked
         carol X: 2 free, 0 locked
         alice USD: 802 free, 198 locked",
    );
}

#[test]
fn a_take_profit_limit_order_is_triggered_by_a_price_in_its_favour() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > deposit bob 10 X
         bob X: 10 free, 0 locked
         > deposit carol 1000 USD
         carol USD: 1000 free, 0 locked
         > bob sell 1 @ 105
         accepted #1
         asks 105: 1
         bob X: 9 free, 1 locked
         > carol buy 1 @ 105
         accepted #2
         trade 1 @ 105: carol #2 takes from bob #1
         asks 105: 0
         carol USD: 895 free, 0 locked
         bob USD: 105 free, 0 locked
         bob X: 9 free, 0 locked
         carol X: 1 free, 0 locked
         > alice take buy 2 at 100 limit 99
         accepted #3
         alice USD: 802 free, 198 locked
         > bob sell 1 @ 100
         accepted #4
         asks 100: 1
         bob X: 8 free, 1 locked
         > carol buy 1 @ 100
         accepted #5
         trade 1 @ 100: carol #5 takes from bob #4
         asks 100: 0
         triggered #3
         bids 99: 2
         carol USD: 795 free, 0 locked
         bob USD: 205 free, 0 locked
         bob X: 8 free, 0 locked
         carol X: 2 free, 0 locked
         alice USD: 802 free, 198 locked
         > alice cancel #3
         canceled #3 with 2 open
         bids 99: 0
         alice USD: 1000 free, 0 locked",
    );
}

#[test]
fn a_market_stop_that_its_owner_cannot_pay_expires() {
    check(
        "> deposit alice 100 USD
         alice USD: 100 free, 0 locked
         > deposit bob 10 X
         bob X: 10 free, 0 locked
         > deposit carol 1000 USD
         carol USD: 1000 free, 0 locked
         > bob sell 1 @ 90
         accepted #1
         asks 90: 1
         bob X: 9 free, 1 locked
         > bob sell 1 @ 150
         accepted #2
         asks 150: 1
         bob X: 8 free, 2 locked
         > alice stop buy 1 at 90
         accepted #3
         alice USD: 10 free, 90 locked
         > carol buy 1 @ 90
         accepted #4
         trade 1 @ 90: carol #4 takes from bob #1
         asks 90: 0
         expired #3 after 0: Rejected(InsufficientBalance)
         carol USD: 910 free, 0 locked
         bob USD: 90 free, 0 locked
         bob X: 8 free, 1 locked
         carol X: 1 free, 0 locked
         alice USD: 100 free, 0 locked",
    );
}

#[test]
fn a_trailing_stop_follows_the_price_and_triggers_when_it_comes_back() {
    check(
        "> deposit alice 10 X
         alice X: 10 free, 0 locked
         > deposit bob 9000 USD
         bob USD: 9000 free, 0 locked
         > deposit carol 10 X
         carol X: 10 free, 0 locked
         > bob buy 1 @ 1000
         accepted #1
         bids 1000: 1
         bob USD: 8000 free, 1000 locked
         > carol sell 1 @ 1000
         accepted #2
         trade 1 @ 1000: carol #2 takes from bob #1
         bids 1000: 0
         carol X: 9 free, 0 locked
         bob USD: 8000 free, 0 locked
         carol USD: 1000 free, 0 locked
         bob X: 1 free, 0 locked
         > alice stop sell 1 trail 1000
         accepted #3
         alice X: 9 free, 1 locked
         > bob buy 1 @ 1100
         accepted #4
         bids 1100: 1
         bob USD: 6900 free, 1100 locked
         > carol sell 1 @ 1100
         accepted #5
         trade 1 @ 1100: carol #5 takes from bob #4
         bids 1100: 0
         carol X: 8 free, 0 locked
         bob USD: 6900 free, 0 locked
         carol USD: 2100 free, 0 locked
         bob X: 2 free, 0 locked
         > bob buy 1 @ 1000
         accepted #6
         bids 1000: 1
         bob USD: 5900 free, 1000 locked
         > carol sell 1 @ 1000
         accepted #7
         trade 1 @ 1000: carol #7 takes from bob #6
         bids 1000: 0
         carol X: 7 free, 0 locked
         bob USD: 5900 free, 0 locked
         carol USD: 3100 free, 0 locked
         bob X: 3 free, 0 locked
         > bob buy 1 @ 990
         accepted #8
         bids 990: 1
         bob USD: 4910 free, 990 locked
         > bob buy 2 @ 980
         accepted #9
         bids 980: 2
         bob USD: 2950 free, 2950 locked
         > carol sell 1 @ 990
         accepted #10
         trade 1 @ 990: carol #10 takes from bob #8
         bids 990: 0
         triggered #3
         trade 1 @ 980: alice #3 takes from bob #9
         bids 980: 1
         carol X: 6 free, 0 locked
         bob USD: 2950 free, 980 locked
         carol USD: 4090 free, 0 locked
         bob X: 5 free, 0 locked
         alice X: 9 free, 0 locked
         alice USD: 980 free, 0 locked",
    );
}

#[test]
fn stops_that_one_walk_met_are_worked_off_oldest_first_each_whole() {
    check(
        "> deposit alice 10 X
         alice X: 10 free, 0 locked
         > deposit bob 9000 USD
         bob USD: 9000 free, 0 locked
         > deposit carol 10 X
         carol X: 10 free, 0 locked
         > bob buy 2 @ 100
         accepted #1
         bids 100: 2
         bob USD: 8800 free, 200 locked
         > bob buy 2 @ 99
         accepted #2
         bids 99: 2
         bob USD: 8602 free, 398 locked
         > bob buy 2 @ 98
         accepted #3
         bids 98: 2
         bob USD: 8406 free, 594 locked
         > carol stop sell 2 at 99
         accepted #4
         carol X: 8 free, 2 locked
         > alice stop sell 1 at 98
         accepted #5
         alice X: 9 free, 1 locked
         > alice stop sell 1 at 100
         accepted #6
         alice X: 8 free, 2 locked
         > carol sell 2 @ 100
         accepted #7
         trade 2 @ 100: carol #7 takes from bob #1
         bids 100: 0
         triggered #6
         trade 1 @ 99: alice #6 takes from bob #2
         bids 99: 1
         triggered #4
         trade 1 @ 99: carol #4 takes from bob #2
         bids 99: 0
         trade 1 @ 98: carol #4 takes from bob #3
         bids 98: 1
         triggered #5
         trade 1 @ 98: alice #5 takes from bob #3
         bids 98: 0
         carol X: 6 free, 0 locked
         bob USD: 8406 free, 0 locked
         carol USD: 397 free, 0 locked
         bob X: 6 free, 0 locked
         alice X: 8 free, 0 locked
         alice USD: 197 free, 0 locked",
    );
}

#[test]
fn an_iceberg_shows_a_part_and_goes_to_the_end_of_the_queue_with_the_next() {
    check(
        "> deposit alice 10 X
         alice X: 10 free, 0 locked
         > deposit bob 10 X
         bob X: 10 free, 0 locked
         > deposit carol 9000 USD
         carol USD: 9000 free, 0 locked
         > alice sell 5 @ 100 shows 2
         accepted #1
         asks 100: 2
         alice X: 5 free, 5 locked
         > bob sell 2 @ 100
         accepted #2
         asks 100: 4
         bob X: 8 free, 2 locked
         > carol buy 3 @ 100
         accepted #3
         trade 2 @ 100: carol #3 takes from alice #1
         trade 1 @ 100: carol #3 takes from bob #2
         asks 100: 3
         carol USD: 8700 free, 0 locked
         alice USD: 200 free, 0 locked
         alice X: 5 free, 3 locked
         carol X: 3 free, 0 locked
         bob USD: 100 free, 0 locked
         bob X: 8 free, 1 locked
         > carol buy 3 @ 100
         accepted #4
         trade 1 @ 100: carol #4 takes from bob #2
         trade 2 @ 100: carol #4 takes from alice #1
         asks 100: 1
         carol USD: 8400 free, 0 locked
         bob USD: 200 free, 0 locked
         bob X: 8 free, 0 locked
         carol X: 6 free, 0 locked
         alice USD: 400 free, 0 locked
         alice X: 5 free, 1 locked",
    );
}

#[test]
fn a_pegged_order_takes_its_price_from_the_book() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > deposit bob 10 X
         bob X: 10 free, 0 locked
         > alice buy 1 @ primary
         rejected: NoPegPrice
         > alice buy 1 @ 90
         accepted #1
         bids 90: 1
         alice USD: 910 free, 90 locked
         > alice buy 1 @ 80
         accepted #2
         bids 80: 1
         alice USD: 830 free, 170 locked
         > alice buy 1 @ primary+1
         accepted #3
         bids 80: 2
         alice USD: 750 free, 250 locked
         > bob sell 1 @ market
         accepted #4
         trade 1 @ 90: bob #4 takes from alice #1
         bids 90: 0
         bob X: 9 free, 0 locked
         alice USD: 750 free, 160 locked
         bob USD: 90 free, 0 locked
         alice X: 1 free, 0 locked",
    );
}

#[test]
fn the_leg_of_an_oco_that_fills_first_ends_the_other() {
    check(
        "> deposit alice 5 X
         alice X: 5 free, 0 locked
         > deposit bob 9000 USD
         bob USD: 9000 free, 0 locked
         > deposit carol 1 X
         carol X: 1 free, 0 locked
         > alice oco pair: sell 5 @ 110 post-only | stop sell 5 at 90 limit 80
         list pair started
         accepted #1
         accepted #2
         asks 110: 5
         alice X: 0 free, 5 locked
         > bob buy 2 @ 110
         accepted #3
         trade 2 @ 110: bob #3 takes from alice #1
         asks 110: 3
         expired #2 after 0: OcoTrigger
         bob USD: 8780 free, 0 locked
         alice USD: 220 free, 0 locked
         alice X: 0 free, 3 locked
         bob X: 2 free, 0 locked",
    );
}

#[test]
fn a_stop_leg_that_triggers_ends_the_other_first() {
    check(
        "> deposit alice 9000 USD
         alice USD: 9000 free, 0 locked
         > deposit bob 10 X
         bob X: 10 free, 0 locked
         > deposit carol 9000 USD
         carol USD: 9000 free, 0 locked
         > alice oco pair: stop buy 5 at 110 limit 120 | buy 5 @ 90 post-only
         list pair started
         accepted #1
         accepted #2
         bids 90: 5
         alice USD: 8400 free, 600 locked
         > bob sell 1 @ 110
         accepted #3
         asks 110: 1
         bob X: 9 free, 1 locked
         > carol buy 1 @ 110
         accepted #4
         trade 1 @ 110: carol #4 takes from bob #3
         asks 110: 0
         expired #2 after 0: OcoTrigger
         bids 90: 0
         triggered #1
         bids 120: 5
         carol USD: 8890 free, 0 locked
         bob USD: 110 free, 0 locked
         bob X: 9 free, 0 locked
         carol X: 1 free, 0 locked
         alice USD: 8400 free, 600 locked",
    );
}

#[test]
fn the_prices_of_an_oco_must_be_the_right_way_round() {
    check(
        "> deposit alice 10 X
         alice X: 10 free, 0 locked
         > alice oco pair: sell 5 @ 90 post-only | stop sell 5 at 110 limit 100
         rejected: OcoPrices
         > alice oco pair: sell 5 @ 110 post-only | stop sell 4 at 90 limit 80
         rejected: InvalidOrderList
         > alice oco pair: sell 5 @ 110 | stop sell 5 at 90 limit 80
         rejected: InvalidOrderList",
    );
}

#[test]
fn to_cancel_one_leg_cancels_the_list() {
    check(
        "> deposit alice 10 X
         alice X: 10 free, 0 locked
         > alice oco pair: sell 5 @ 110 post-only | stop sell 5 at 90 as low
         list pair started
         accepted #1
         accepted #2
         asks 110: 5
         alice X: 5 free, 5 locked
         > alice cancel low
         canceled #1 with 5 open
         asks 110: 0
         canceled #2 with 5 open
         list pair done
         alice X: 10 free, 0 locked",
    );
}

#[test]
fn a_pending_order_is_placed_once_the_working_order_is_filled() {
    check(
        "> deposit alice 9000 USD
         alice USD: 9000 free, 0 locked
         > deposit bob 10 X
         bob X: 10 free, 0 locked
         > alice oto list: buy 4 @ 100 | buy 1 @ 90
         list list started
         accepted #1
         accepted #2
         bids 100: 4
         alice USD: 8600 free, 400 locked
         > bob sell 3 @ 100
         accepted #3
         trade 3 @ 100: bob #3 takes from alice #1
         bids 100: 1
         bob X: 7 free, 0 locked
         alice USD: 8600 free, 100 locked
         bob USD: 300 free, 0 locked
         alice X: 3 free, 0 locked
         > bob sell 1 @ 100
         accepted #4
         trade 1 @ 100: bob #4 takes from alice #1
         bids 100: 0
         triggered #2
         bids 90: 1
         bob X: 6 free, 0 locked
         alice USD: 8510 free, 90 locked
         bob USD: 400 free, 0 locked
         alice X: 4 free, 0 locked",
    );
}

#[test]
fn a_pending_order_goes_with_its_working_order() {
    check(
        "> deposit alice 9000 USD
         alice USD: 9000 free, 0 locked
         > alice oto list: buy 4 @ 100 | buy 1 @ 90
         list list started
         accepted #1
         accepted #2
         bids 100: 4
         alice USD: 8600 free, 400 locked
         > alice cancel #1
         canceled #1 with 4 open
         bids 100: 0
         canceled #2 with 1 open
         list list done
         alice USD: 9000 free, 0 locked
         > alice oto list: buy 4 @ 100 ioc | buy 1 @ 90
         list list started
         accepted #3
         accepted #4
         expired #3 after 0: UnfilledIocQuantity
         expired #4 after 0: OtoPhaseOne
         list list done
         alice USD: 9000 free, 0 locked",
    );
}

#[test]
fn a_pending_order_that_does_not_pass_any_more_expires() {
    check(
        "> deposit alice 400 USD
         alice USD: 400 free, 0 locked
         > deposit bob 10 X
         bob X: 10 free, 0 locked
         > alice oto list: buy 4 @ 100 | buy 1 @ 90
         list list started
         accepted #1
         accepted #2
         bids 100: 4
         alice USD: 0 free, 400 locked
         > bob sell 4 @ 100
         accepted #3
         trade 4 @ 100: bob #3 takes from alice #1
         bids 100: 0
         expired #2 after 0: Rejected(InsufficientBalance)
         list list done
         bob X: 6 free, 0 locked
         alice USD: 0 free, 0 locked
         bob USD: 400 free, 0 locked
         alice X: 4 free, 0 locked",
    );
}

#[test]
fn the_pending_pair_of_an_otoco_sells_what_the_working_order_brought_after_its_fee() {
    check(
        "> fees maker 10% taker 20%
         > deposit alice 9000 USD
         alice USD: 9000 free, 0 locked
         > deposit bob 200 X
         bob X: 200 free, 0 locked
         > alice otoco list: buy 20 @ 10 | sell proceeds @ 12 post-only | stop sell proceeds at 8 limit 7
         list list started
         accepted #1
         accepted #2
         accepted #3
         bids 10: 20
         alice USD: 8800 free, 200 locked
         > bob sell 5 @ 10
         accepted #4
         trade 5 @ 10: bob #4 takes from alice #1
         bids 10: 15
         bob X: 195 free, 0 locked
         alice USD: 8800 free, 150 locked
         bob USD: 40 free, 0 locked
         fees USD: 10 free, 0 locked
         alice X: 0 free, 4 locked
         fees X: 1 free, 0 locked
         > bob sell 15 @ 10
         accepted #5
         trade 15 @ 10: bob #5 takes from alice #1
         bids 10: 0
         triggered #2
         triggered #3
         asks 12: 17
         bob X: 180 free, 0 locked
         alice USD: 8800 free, 0 locked
         bob USD: 160 free, 0 locked
         fees USD: 40 free, 0 locked
         alice X: 0 free, 17 locked
         fees X: 3 free, 0 locked
         > alice cancel list list
         canceled #2 with 17 open
         asks 12: 0
         canceled #3 with 17 open
         list list done
         alice X: 17 free, 0 locked",
    );
}

#[test]
fn self_trade_prevention_expires_the_taker_the_maker_or_both() {
    check(
        "> deposit alice 9000 USD
         alice USD: 9000 free, 0 locked
         > deposit bob 10 X
         bob X: 10 free, 0 locked
         > bob sell 1 @ 100
         accepted #1
         asks 100: 1
         bob X: 9 free, 1 locked
         > deposit alice 10 X
         alice X: 10 free, 0 locked
         > alice sell 1 @ 100
         accepted #2
         asks 100: 2
         alice X: 9 free, 1 locked
         > alice buy 3 @ 100 stp expire-taker
         accepted #3
         trade 1 @ 100: alice #3 takes from bob #1
         prevented @ 100: ExpireTaker, #3 loses 2, #2 loses 0
         asks 100: 1
         expired #3 after 1: SelfTradePrevention
         alice USD: 8900 free, 0 locked
         bob USD: 100 free, 0 locked
         bob X: 9 free, 0 locked
         alice X: 10 free, 1 locked
         > alice sell 1 @ 100
         accepted #4
         asks 100: 2
         alice X: 9 free, 2 locked
         > alice buy 3 @ 100 stp expire-maker
         accepted #5
         prevented @ 100: ExpireMaker, #5 loses 0, #2 loses 1
         expired #2 after 0: SelfTradePrevention
         prevented @ 100: ExpireMaker, #5 loses 0, #4 loses 1
         expired #4 after 0: SelfTradePrevention
         asks 100: 0
         bids 100: 3
         alice USD: 8600 free, 300 locked
         alice X: 11 free, 0 locked
         > alice sell 3 @ 100 stp expire-both
         accepted #6
         prevented @ 100: ExpireBoth, #6 loses 3, #5 loses 3
         expired #5 after 0: SelfTradePrevention
         bids 100: 0
         expired #6 after 0: SelfTradePrevention
         alice X: 11 free, 0 locked
         alice USD: 8900 free, 0 locked",
    );
}

#[test]
fn self_trade_prevention_can_take_the_same_off_both() {
    check(
        "> deposit alice 9000 USD
         alice USD: 9000 free, 0 locked
         > deposit alice 10 X
         alice X: 10 free, 0 locked
         > alice sell 5 @ 100 stp decrement
         accepted #1
         asks 100: 5
         alice X: 5 free, 5 locked
         > alice buy 2 @ 100 stp decrement
         accepted #2
         prevented @ 100: Decrement, #2 loses 2, #1 loses 2
         asks 100: 3
         expired #2 after 0: SelfTradePrevention
         alice USD: 9000 free, 0 locked
         alice X: 7 free, 3 locked
         > alice buy 4 @ 100 stp transfer
         accepted #3
         prevented @ 100: Decrement, #3 loses 3, #1 loses 3
         expired #1 after 0: SelfTradePrevention
         asks 100: 0
         bids 100: 1
         alice USD: 8900 free, 100 locked
         alice X: 10 free, 0 locked",
    );
}

#[test]
fn between_two_accounts_of_a_group_what_would_have_traded_changes_hands_without_a_fee() {
    check(
        "> fees maker 10% taker 10%
         > group alice bob
         > deposit alice 9000 USD
         alice USD: 9000 free, 0 locked
         > deposit bob 10 X
         bob X: 10 free, 0 locked
         > bob sell 5 @ 100 stp transfer
         accepted #1
         asks 100: 5
         bob X: 5 free, 5 locked
         > alice buy 2 @ 110 stp transfer
         accepted #2
         prevented @ 100: Transfer, #2 loses 2, #1 loses 2
         asks 100: 3
         expired #2 after 0: SelfTradePrevention
         alice USD: 8800 free, 0 locked
         bob USD: 200 free, 0 locked
         bob X: 5 free, 3 locked
         alice X: 2 free, 0 locked",
    );
}

#[test]
fn a_fok_order_counts_what_icebergs_hide_and_not_what_prevention_takes() {
    check(
        "> deposit alice 9000 USD
         alice USD: 9000 free, 0 locked
         > deposit alice 10 X
         alice X: 10 free, 0 locked
         > deposit bob 10 X
         bob X: 10 free, 0 locked
         > bob sell 4 @ 100 shows 1
         accepted #1
         asks 100: 1
         bob X: 6 free, 4 locked
         > alice sell 2 @ 100
         accepted #2
         asks 100: 3
         alice X: 8 free, 2 locked
         > alice buy 5 @ 100 fok stp expire-maker
         accepted #3
         expired #3 after 0: UnfilledFok
         alice USD: 9000 free, 0 locked
         > alice buy 4 @ 100 fok stp expire-maker
         accepted #4
         trade 1 @ 100: alice #4 takes from bob #1
         prevented @ 100: ExpireMaker, #4 loses 0, #2 loses 2
         expired #2 after 0: SelfTradePrevention
         trade 1 @ 100: alice #4 takes from bob #1
         trade 1 @ 100: alice #4 takes from bob #1
         trade 1 @ 100: alice #4 takes from bob #1
         asks 100: 0
         alice USD: 8600 free, 0 locked
         bob USD: 400 free, 0 locked
         bob X: 6 free, 0 locked
         alice X: 14 free, 0 locked",
    );
}

#[test]
fn a_cancel_replace_says_first_how_both_halves_went() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > alice buy 1 @ 100
         accepted #1
         bids 100: 1
         alice USD: 900 free, 100 locked
         > alice cancel #1 and buy 2 @ 90
         cancel: done, new order: done
         canceled #1 with 1 open
         bids 100: 0
         accepted #2
         bids 90: 2
         alice USD: 820 free, 180 locked
         > alice cancel #1 and buy 2 @ 80
         cancel: UnknownOrder, new order: not attempted
         > alice cancel #1 or not and buy 2 @ 80
         cancel: UnknownOrder, new order: done
         accepted #3
         bids 80: 2
         alice USD: 660 free, 340 locked
         > alice cancel #2 and buy 200 @ 80
         cancel: done, new order: InsufficientBalance
         canceled #2 with 2 open
         bids 90: 0
         alice USD: 840 free, 160 locked
         > alice cancel #3 and buy 2 @ 0
         rejected: InvalidCombination",
    );
}

#[test]
fn an_amend_of_an_order_in_a_list_tells_of_the_list_where_the_name_changes() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > alice oto list: buy 4 @ 100 as work | buy 3 @ 90 as wait
         list list started
         accepted #1
         accepted #2
         bids 100: 4
         alice USD: 600 free, 400 locked
         > alice amend work to 2 as work
         amended #1 to 2
         bids 100: 2
         alice USD: 800 free, 200 locked
         > alice amend wait to 1 as waits
         amended #2 to 1
         list list updated",
    );
}

#[test]
fn a_reduce_keeps_the_place_and_a_replace_goes_to_the_end() {
    check(
        "> deposit alice 10 X
         alice X: 10 free, 0 locked
         > deposit bob 10 X
         bob X: 10 free, 0 locked
         > deposit carol 9000 USD
         carol USD: 9000 free, 0 locked
         > alice sell 5 @ 100
         accepted #1
         asks 100: 5
         alice X: 5 free, 5 locked
         > bob sell 5 @ 100
         accepted #2
         asks 100: 10
         bob X: 5 free, 5 locked
         > alice reduce #1 by 2
         amended #1 to 3
         asks 100: 8
         alice X: 7 free, 3 locked
         > bob replace #2 with 4 @ 100
         replaced #2 with 4 @ 100
         asks 100: 3
         asks 100: 7
         bob X: 6 free, 4 locked
         > alice replace #1 with 3 @ 100
         replaced #1 with 3 @ 100
         asks 100: 4
         asks 100: 7
         > carol buy 1 @ 100
         accepted #3
         trade 1 @ 100: carol #3 takes from bob #2
         asks 100: 6
         carol USD: 8900 free, 0 locked
         bob USD: 100 free, 0 locked
         bob X: 6 free, 3 locked
         carol X: 1 free, 0 locked
         > carol buy 1 @ 99
         accepted #4
         bids 99: 1
         carol USD: 8801 free, 99 locked
         > alice replace #1 with 6 @ 99
         replaced #1 with 6 @ 99
         asks 100: 3
         trade 1 @ 99: alice #1 takes from carol #4
         bids 99: 0
         asks 99: 5
         alice X: 4 free, 5 locked
         carol USD: 8801 free, 0 locked
         alice USD: 99 free, 0 locked
         carol X: 2 free, 0 locked
         > bob reduce #2 by 9
         canceled #2 with 3 open
         asks 100: 0
         bob X: 9 free, 0 locked",
    );
}

#[test]
fn a_countdown_that_nobody_renews_cancels_all() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > alice buy 1 @ 100
         accepted #1
         bids 100: 1
         alice USD: 900 free, 100 locked
         > alice countdown 500
         > wait 400ms
         > tick
         > alice countdown 500
         > wait 400ms
         > tick
         > wait 100ms
         > alice buy 1 @ 90
         accepted #2
         bids 90: 1
         alice USD: 810 free, 190 locked
         > tick
         countdown of alice is over
         canceled #1 with 1 open
         bids 100: 0
         canceled #2 with 1 open
         bids 90: 0
         alice USD: 1000 free, 0 locked
         > tick",
    );
}

#[test]
fn a_run_of_the_price_halts_the_symbol_until_the_halt_is_over() {
    check(
        "> breaker 10% in 60s for 5s
         > deposit alice 9000 USD
         alice USD: 9000 free, 0 locked
         > deposit bob 10 X
         bob X: 10 free, 0 locked
         > bob sell 1 @ 100
         accepted #1
         asks 100: 1
         bob X: 9 free, 1 locked
         > bob sell 1 @ 109
         accepted #2
         asks 109: 1
         bob X: 8 free, 2 locked
         > bob sell 1 @ 110
         accepted #3
         asks 110: 1
         bob X: 7 free, 3 locked
         > alice buy 1 @ 100
         accepted #4
         trade 1 @ 100: alice #4 takes from bob #1
         asks 100: 0
         alice USD: 8900 free, 0 locked
         bob USD: 100 free, 0 locked
         bob X: 7 free, 2 locked
         alice X: 1 free, 0 locked
         > alice buy 1 @ 109
         accepted #5
         trade 1 @ 109: alice #5 takes from bob #2
         asks 109: 0
         alice USD: 8791 free, 0 locked
         bob USD: 209 free, 0 locked
         bob X: 7 free, 1 locked
         alice X: 2 free, 0 locked
         > alice buy 1 @ 110
         accepted #6
         trade 1 @ 110: alice #6 takes from bob #3
         asks 110: 0
         symbol: Halt
         alice USD: 8681 free, 0 locked
         bob USD: 319 free, 0 locked
         bob X: 7 free, 0 locked
         alice X: 3 free, 0 locked
         > alice buy 1 @ 90
         rejected: MarketClosed
         > wait 4s
         > tick
         > wait 1s
         > tick
         symbol: Trading
         > alice buy 1 @ 90
         accepted #7
         bids 90: 1
         alice USD: 8591 free, 90 locked",
    );
}

#[test]
fn unfilled_orders_are_counted_and_a_first_fill_takes_some_off() {
    check(
        "> order counts 3 in 10s
         > deposit alice 9000 USD
         alice USD: 9000 free, 0 locked
         > deposit bob 10 X
         bob X: 10 free, 0 locked
         > alice buy 1 @ 100
         accepted #1
         bids 100: 1
         alice has placed 1
         alice USD: 8900 free, 100 locked
         > alice buy 1 @ 99
         accepted #2
         bids 99: 1
         alice has placed 2
         alice USD: 8801 free, 199 locked
         > alice buy 1 @ 98
         accepted #3
         bids 98: 1
         alice has placed 3
         alice USD: 8703 free, 297 locked
         > alice buy 1 @ 97
         rejected: TooManyOrders
         > bob sell 1 @ 100
         accepted #4
         trade 1 @ 100: bob #4 takes from alice #1
         bids 100: 0
         bob has placed 0
         alice has placed 1
         bob X: 9 free, 0 locked
         alice USD: 8703 free, 197 locked
         bob USD: 100 free, 0 locked
         alice X: 1 free, 0 locked
         > alice oto list: buy 1 @ 96 | buy 1 @ 95
         list list started
         accepted #5
         accepted #6
         bids 96: 1
         alice has placed 3
         alice USD: 8607 free, 293 locked
         > alice oto more: buy 1 @ 96 | buy 1 @ 95
         rejected: TooManyOrders
         > wait 10s
         > alice oto more: buy 1 @ 94 | buy 1 @ 95
         list more started
         accepted #7
         accepted #8
         bids 94: 1
         alice has placed 2
         alice USD: 8513 free, 387 locked",
    );
}

#[test]
fn beyond_the_execution_range_a_taker_expires() {
    check(
        "> execution range 10%
         > deposit alice 9000 USD
         alice USD: 9000 free, 0 locked
         > deposit bob 10 X
         bob X: 10 free, 0 locked
         > reference price 100
         > bob sell 1 @ 110
         accepted #1
         asks 110: 1
         bob X: 9 free, 1 locked
         > bob sell 1 @ 111
         accepted #2
         asks 111: 1
         bob X: 8 free, 2 locked
         > alice market buy 1
         accepted #3
         trade 1 @ 110: alice #3 takes from bob #1
         asks 110: 0
         alice USD: 8890 free, 0 locked
         bob USD: 110 free, 0 locked
         bob X: 8 free, 1 locked
         alice X: 1 free, 0 locked
         > alice buy 2 @ 120
         accepted #4
         expired #4 after 0: PriceRangeExceeded
         alice USD: 8890 free, 0 locked",
    );
}

#[test]
fn a_withdrawal_under_way_is_locked_until_it_left_or_did_not() {
    check(
        "> deposit alice 100 USD
         alice USD: 100 free, 0 locked
         > begin withdrawal alice 60 USD one
         alice USD: 40 free, 60 locked
         > begin withdrawal alice 60 USD one
         repeated
         > withdraw alice 50 USD
         rejected: InsufficientBalance
         > abandon withdrawal alice one
         alice USD: 100 free, 0 locked
         > begin withdrawal alice 70 USD two
         alice USD: 30 free, 70 locked
         > complete withdrawal alice two
         alice USD: 30 free, 0 locked
         > complete withdrawal alice two
         rejected: UnknownWithdrawal",
    );
}

#[test]
fn a_fee_by_lot_comes_on_top_for_the_buyer_who_holds_it_at_the_takers_rate() {
    check(
        "> fees by lot maker 1 taker 3
         > deposit alice 9000 USD
         alice USD: 9000 free, 0 locked
         > deposit bob 10 X
         bob X: 10 free, 0 locked
         > alice buy 5 @ 100
         accepted #1
         bids 100: 5
         alice USD: 8485 free, 515 locked
         > bob sell 2 @ 100
         accepted #2
         trade 2 @ 100: bob #2 takes from alice #1
         bids 100: 3
         bob X: 8 free, 0 locked
         alice USD: 8489 free, 309 locked
         bob USD: 194 free, 0 locked
         fees USD: 8 free, 0 locked
         alice X: 2 free, 0 locked
         > alice cancel #1
         canceled #1 with 3 open
         bids 100: 0
         alice USD: 8798 free, 0 locked",
    );
}

#[test]
fn an_order_asked_again_under_its_name_is_the_first_one_whatever_became_of_it() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > deposit bob 5 X
         bob X: 5 free, 0 locked
         > alice once buy 3 @ 100 as a
         accepted #1
         bids 100: 3
         alice USD: 700 free, 300 locked
         > alice once buy 3 @ 100 as a
         repeated: #1 New
         > bob sell 3 @ 100
         accepted #2
         trade 3 @ 100: bob #2 takes from alice #1
         bids 100: 0
         bob X: 2 free, 0 locked
         alice USD: 700 free, 0 locked
         bob USD: 300 free, 0 locked
         alice X: 3 free, 0 locked
         > alice once buy 3 @ 100 as a
         repeated: #1 New
         > halt
         > alice once buy 3 @ 100 as a
         repeated: #1 New",
    );
}

#[test]
fn an_order_asked_again_says_what_the_first_command_made_of_it() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > deposit bob 5 X
         bob X: 5 free, 0 locked
         > bob sell 2 @ 100
         accepted #1
         asks 100: 2
         bob X: 3 free, 2 locked
         > alice once buy 3 @ 100 as rests
         accepted #2
         trade 2 @ 100: alice #2 takes from bob #1
         asks 100: 0
         bids 100: 1
         alice USD: 700 free, 100 locked
         bob USD: 200 free, 0 locked
         bob X: 3 free, 0 locked
         alice X: 2 free, 0 locked
         > alice cancel rests
         canceled #2 with 1 open
         bids 100: 0
         alice USD: 800 free, 0 locked
         > alice once buy 3 @ 100 as rests
         repeated: #2 PartiallyFilled
         > alice once buy 1 @ 99 ioc as expires
         accepted #3
         expired #3 after 0: UnfilledIocQuantity
         alice USD: 800 free, 0 locked
         > alice once buy 1 @ 99 ioc as expires
         repeated: #3 Expired",
    );
}

#[test]
fn a_name_is_used_anew_with_other_terms_or_by_who_has_the_answer() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > alice once buy 3 @ 100 as a
         accepted #1
         bids 100: 3
         alice USD: 700 free, 300 locked
         > alice once buy 2 @ 100 as a
         rejected: DuplicateOrder
         > alice once buy 3 @ 100 as a
         repeated: #1 New
         > alice anew buy 3 @ 100 as a
         rejected: DuplicateOrder
         > alice once buy 3 @ 100 as a
         rejected: DuplicateOrder
         > alice cancel a
         canceled #1 with 3 open
         bids 100: 0
         alice USD: 1000 free, 0 locked
         > alice anew buy 3 @ 100 as a
         accepted #2
         bids 100: 3
         alice USD: 700 free, 300 locked
         > alice once buy 3 @ 100 as a
         repeated: #2 New
         > alice cancel a
         canceled #2 with 3 open
         bids 100: 0
         alice USD: 1000 free, 0 locked
         > alice once buy 2 @ 100 as a
         accepted #3
         bids 100: 2
         alice USD: 800 free, 200 locked",
    );
}

#[test]
fn a_refusal_is_remembered_until_who_has_it_asks_anew_and_nobody_gets_anothers_order() {
    check(
        "> deposit bob 1000 USD
         bob USD: 1000 free, 0 locked
         > alice once buy 3 @ 100 as a
         rejected: InsufficientBalance
         > deposit alice 400 USD
         alice USD: 400 free, 0 locked
         > alice once buy 3 @ 100 as a
         rejected: InsufficientBalance
         > alice anew buy 3 @ 100 as a
         accepted #1
         bids 100: 3
         alice USD: 100 free, 300 locked
         > bob once buy 3 @ 100 as a
         accepted #2
         bids 100: 6
         bob USD: 700 free, 300 locked
         > alice once buy 3 @ 100 as a
         repeated: #1 New",
    );
}

#[test]
fn a_name_is_remembered_for_five_minutes() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > alice once buy 3 @ 100 ioc as a
         accepted #1
         expired #1 after 0: UnfilledIocQuantity
         alice USD: 1000 free, 0 locked
         > wait 299s
         > alice once buy 3 @ 100 ioc as a
         repeated: #1 Expired
         > wait 1s
         > alice once buy 3 @ 100 ioc as a
         accepted #2
         expired #2 after 0: UnfilledIocQuantity
         alice USD: 1000 free, 0 locked
         > alice once buy 3 @ 100 ioc as a
         repeated: #2 Expired",
    );
}

#[test]
fn a_list_asked_again_is_the_first_one_whichever_names_were_made_up() {
    check(
        "> deposit alice 10 X
         alice X: 10 free, 0 locked
         > alice once oco way-out: sell 3 @ 110 post-only | stop sell 3 at 90
         list way-out started
         accepted #1
         accepted #2
         asks 110: 3
         alice X: 7 free, 3 locked
         > alice once oco way-out: sell 3 @ 110 post-only | stop sell 3 at 90
         repeated: #1 New, #2 New
         > alice once oco way-out: sell 2 @ 110 post-only | stop sell 2 at 90
         rejected: DuplicateOrderList
         > alice cancel list way-out
         canceled #1 with 3 open
         asks 110: 0
         canceled #2 with 3 open
         list way-out done
         alice X: 10 free, 0 locked
         > alice once oco way-out: sell 3 @ 110 post-only | stop sell 3 at 90
         repeated: #1 New, #2 New
         > alice anew oco way-out: sell 3 @ 110 post-only | stop sell 3 at 90
         list way-out started
         accepted #3
         accepted #4
         asks 110: 3
         alice X: 7 free, 3 locked",
    );
}

#[test]
fn a_cancel_replace_asked_again_is_the_first_one_with_both_of_its_halves() {
    check(
        "> deposit alice 1000 USD
         alice USD: 1000 free, 0 locked
         > alice buy 3 @ 100 as old
         accepted #1
         bids 100: 3
         alice USD: 700 free, 300 locked
         > alice once cancel old and buy 3 @ 99 as new
         cancel: done, new order: done
         canceled #1 with 3 open
         bids 100: 0
         accepted #2
         bids 99: 3
         alice USD: 703 free, 297 locked
         > alice once cancel old and buy 3 @ 99 as new
         repeated: #2 New, canceled #1
         > alice once cancel old or not and buy 1 @ 98 as other
         cancel: UnknownOrder, new order: done
         accepted #3
         bids 98: 1
         alice USD: 605 free, 395 locked
         > alice once cancel old or not and buy 1 @ 98 as other
         repeated: #3 New, cancel: UnknownOrder
         > alice once cancel gone and buy 1 @ 97 as nothing
         cancel: UnknownOrder, new order: not attempted
         > alice once cancel gone and buy 1 @ 97 as nothing
         cancel: UnknownOrder, new order: not attempted",
    );
}
