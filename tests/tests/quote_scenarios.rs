//! Quote-driven symbols, as transcripts (tests::scenario): the house is carol.

use tests::scenario::check;

#[test]
fn a_market_order_trades_at_once_at_the_price_of_the_house_and_its_spread() {
    check(
        "
        > deposit alice 1000 USD
        alice USD: 1000 free, 0 locked
        > deposit carol 50 X
        carol X: 50 free, 0 locked
        > driven by carol spread 1% for 5s exposure 20
        > quote 199 / 201
        house: 197 / 204
        asks 204: 20
        > alice market buy 2
        accepted #1
        accepted #2
        trade 2 @ 204: alice #1 takes from carol #2
        bids 197: 2
        asks 204: 18
        alice USD: 592 free, 0 locked
        carol X: 48 free, 0 locked
        carol USD: 408 free, 0 locked
        alice X: 2 free, 0 locked
        > alice market sell 1
        accepted #3
        accepted #4
        trade 1 @ 197: alice #3 takes from carol #4
        bids 197: 1
        asks 204: 19
        alice X: 1 free, 0 locked
        carol USD: 211 free, 0 locked
        alice USD: 789 free, 0 locked
        carol X: 49 free, 0 locked
        ",
    );
}

#[test]
fn a_limit_order_rests_until_the_first_price_that_reaches_it_and_trades_at_that_price() {
    check(
        "
        > deposit alice 1000 USD
        alice USD: 1000 free, 0 locked
        > deposit bob 1000 USD
        bob USD: 1000 free, 0 locked
        > deposit carol 50 X
        carol X: 50 free, 0 locked
        > driven by carol spread 0% for 5s exposure 20
        > quote 99 / 101
        house: 99 / 101
        asks 101: 20
        > alice buy 2 @ 100
        accepted #1
        alice USD: 800 free, 200 locked
        > bob buy 3 @ 98
        accepted #2
        bob USD: 706 free, 294 locked
        > quote 99 / 100
        house: 99 / 100
        accepted #3
        trade 2 @ 100: carol #3 takes from alice #1
        bids 99: 2
        asks 101: 0
        asks 100: 18
        carol X: 48 free, 0 locked
        alice USD: 800 free, 0 locked
        carol USD: 200 free, 0 locked
        alice X: 2 free, 0 locked
        > quote 95 / 97
        house: 95 / 97
        accepted #4
        trade 3 @ 97: carol #4 takes from bob #2
        bids 99: 0
        bids 95: 5
        asks 100: 0
        asks 97: 15
        carol X: 45 free, 0 locked
        bob USD: 709 free, 0 locked
        carol USD: 491 free, 0 locked
        bob X: 3 free, 0 locked
        ",
    );
}

#[test]
fn users_never_meet_each_other() {
    check(
        "
        > deposit alice 1000 USD
        alice USD: 1000 free, 0 locked
        > deposit bob 10 X
        bob X: 10 free, 0 locked
        > deposit carol 50 X
        carol X: 50 free, 0 locked
        > deposit carol 1000 USD
        carol USD: 1000 free, 0 locked
        > driven by carol spread 0% for 5s exposure 20
        > quote 90 / 110
        house: 90 / 110
        bids 90: 11
        asks 110: 20
        > alice buy 2 @ 100
        accepted #1
        alice USD: 800 free, 200 locked
        > bob sell 2 @ 95
        accepted #2
        bob X: 8 free, 2 locked
        > quote 96 / 99
        house: 96 / 99
        accepted #3
        trade 2 @ 99: carol #3 takes from alice #1
        accepted #4
        trade 2 @ 96: carol #4 takes from bob #2
        bids 90: 0
        bids 96: 10
        asks 110: 0
        asks 99: 20
        carol X: 50 free, 0 locked
        alice USD: 802 free, 0 locked
        carol USD: 1006 free, 0 locked
        alice X: 2 free, 0 locked
        bob USD: 192 free, 0 locked
        bob X: 8 free, 0 locked
        ",
    );
}

#[test]
fn without_a_price_or_with_one_too_old_market_orders_are_refused_and_limit_orders_rest() {
    check(
        "
        > deposit alice 1000 USD
        alice USD: 1000 free, 0 locked
        > deposit carol 50 X
        carol X: 50 free, 0 locked
        > driven by carol spread 0% for 5s exposure 20
        > alice market buy 1
        rejected: NoReferencePrice
        > quote 99 / 101
        house: 99 / 101
        asks 101: 20
        > alice market buy 1
        accepted #1
        accepted #2
        trade 1 @ 101: alice #1 takes from carol #2
        bids 99: 1
        asks 101: 19
        alice USD: 899 free, 0 locked
        carol X: 49 free, 0 locked
        carol USD: 101 free, 0 locked
        alice X: 1 free, 0 locked
        > wait 5s
        > alice market buy 1
        rejected: NoReferencePrice
        > alice buy 1 @ 105
        accepted #3
        bids 99: 0
        asks 101: 0
        alice USD: 794 free, 105 locked
        > alice buy 1 @ 105 ioc
        accepted #4
        expired #4 after 0: UnfilledIocQuantity
        alice USD: 794 free, 105 locked
        > tick
        house: price too old
        > quote 99 / 103
        house: 99 / 103
        accepted #5
        trade 1 @ 103: carol #5 takes from alice #3
        bids 99: 2
        asks 103: 18
        carol X: 48 free, 0 locked
        alice USD: 796 free, 0 locked
        carol USD: 204 free, 0 locked
        alice X: 2 free, 0 locked
        ",
    );
}

#[test]
fn the_house_trades_no_further_than_its_exposure_and_who_waits_comes_first() {
    check(
        "
        > deposit alice 1000 USD
        alice USD: 1000 free, 0 locked
        > deposit bob 1000 USD
        bob USD: 1000 free, 0 locked
        > deposit bob 5 X
        bob X: 5 free, 0 locked
        > deposit carol 50 X
        carol X: 50 free, 0 locked
        > deposit carol 1000 USD
        carol USD: 1000 free, 0 locked
        > driven by carol spread 0% for 5s exposure 3
        > quote 99 / 101
        house: 99 / 101
        bids 99: 3
        asks 101: 3
        > alice buy 5 @ 102
        accepted #1
        accepted #2
        trade 3 @ 101: alice #1 takes from carol #2
        bids 99: 6
        asks 101: 0
        alice USD: 493 free, 204 locked
        carol X: 47 free, 0 locked
        carol USD: 1303 free, 0 locked
        alice X: 3 free, 0 locked
        > bob market buy 1
        accepted #3
        expired #3 after 0: InsufficientLiquidity
        > bob buy 1 @ 102 fok
        accepted #4
        expired #4 after 0: UnfilledFok
        bob USD: 1000 free, 0 locked
        > bob market sell 2
        accepted #5
        accepted #6
        trade 2 @ 99: bob #5 takes from carol #6
        bids 99: 4
        bob X: 3 free, 0 locked
        carol USD: 1105 free, 0 locked
        bob USD: 1198 free, 0 locked
        carol X: 49 free, 0 locked
        > bob market buy 1
        accepted #7
        expired #7 after 0: InsufficientLiquidity
        > quote 99 / 101
        house: 99 / 101
        accepted #8
        trade 2 @ 101: carol #8 takes from alice #1
        bids 99: 6
        carol X: 47 free, 0 locked
        alice USD: 495 free, 0 locked
        carol USD: 1307 free, 0 locked
        alice X: 5 free, 0 locked
        ",
    );
}

#[test]
fn the_house_trades_no_further_than_its_funds() {
    check(
        "
        > deposit alice 5 X
        alice X: 5 free, 0 locked
        > deposit bob 1000 USD
        bob USD: 1000 free, 0 locked
        > deposit carol 250 USD
        carol USD: 250 free, 0 locked
        > driven by carol spread 0% for 5s exposure 30
        > quote 100 / 101
        house: 100 / 101
        bids 100: 2
        > bob market buy 1
        accepted #1
        expired #1 after 0: InsufficientLiquidity
        > alice market sell 5
        accepted #2
        accepted #3
        trade 2 @ 100: alice #2 takes from carol #3
        expired #2 after 2: InsufficientLiquidity
        bids 100: 0
        asks 101: 2
        alice X: 3 free, 0 locked
        carol USD: 50 free, 0 locked
        alice USD: 200 free, 0 locked
        carol X: 2 free, 0 locked
        > alice sell 1 @ 100
        accepted #4
        alice X: 2 free, 1 locked
        > deposit carol 100 USD
        carol USD: 150 free, 0 locked
        > quote 100 / 101
        house: 100 / 101
        accepted #5
        trade 1 @ 100: carol #5 takes from alice #4
        asks 101: 3
        carol USD: 50 free, 0 locked
        alice USD: 300 free, 0 locked
        alice X: 2 free, 0 locked
        carol X: 3 free, 0 locked
        ",
    );
}

#[test]
fn stops_and_lists_go_by_the_reference_price() {
    check(
        "
        > deposit alice 10 X
        alice X: 10 free, 0 locked
        > deposit alice 1000 USD
        alice USD: 1000 free, 0 locked
        > deposit carol 50 X
        carol X: 50 free, 0 locked
        > deposit carol 5000 USD
        carol USD: 5000 free, 0 locked
        > driven by carol spread 0% for 5s exposure 30
        > quote 99 / 101
        house: 99 / 101
        bids 99: 30
        asks 101: 30
        > alice stop sell 2 at 95
        accepted #1
        alice X: 8 free, 2 locked
        > alice oco pair: sell 2 @ 120 post-only | stop sell 2 at 96
        list pair started
        accepted #2
        accepted #3
        alice X: 6 free, 4 locked
        > alice oto later: buy 1 @ 98 | sell 1 @ 130
        list later started
        accepted #4
        accepted #5
        alice USD: 902 free, 98 locked
        > quote 95 / 97
        house: 95 / 97
        accepted #6
        trade 1 @ 97: carol #6 takes from alice #4
        triggered #5
        expired #2 after 0: OcoTrigger
        triggered #3
        accepted #7
        trade 2 @ 95: alice #3 takes from carol #7
        list pair done
        bids 99: 0
        bids 95: 29
        asks 101: 0
        asks 97: 31
        carol X: 51 free, 0 locked
        alice USD: 1093 free, 0 locked
        carol USD: 4907 free, 0 locked
        alice X: 6 free, 3 locked
        > quote 120 / 122
        house: 120 / 122
        bids 95: 0
        bids 120: 29
        asks 97: 0
        asks 122: 31
        ",
    );
}

#[test]
fn what_makes_no_sense_without_a_book_is_refused() {
    check(
        "
        > deposit alice 1000 USD
        alice USD: 1000 free, 0 locked
        > deposit carol 50 X
        carol X: 50 free, 0 locked
        > alice buy 1 @ 90
        accepted #1
        bids 90: 1
        alice USD: 910 free, 90 locked
        > driven by carol spread 0% for 5s exposure 20
        rejected: OpenOrders
        > alice cancel #1
        canceled #1 with 1 open
        bids 90: 0
        alice USD: 1000 free, 0 locked
        > quote 99 / 101
        rejected: NotQuoteDriven
        > driven by carol spread 0% for 5s exposure 20
        > reference price 100
        rejected: InvalidConfiguration
        > quote 101 / 99
        rejected: InvalidQuote
        > alice buy 4 @ 90 shows 1
        rejected: IcebergNotSupported
        > alice buy 4 @ primary
        rejected: PegNotSupported
        > carol sell 1 @ 101
        rejected: AccountDisabled
        > quote 99 / 101 said at 50
        house: 99 / 101
        asks 101: 20
        > quote 99 / 101 said at 49
        rejected: QuoteOutdated
        > alice buy 4 @ 101 post-only
        rejected: WouldMatchImmediately
        > alice buy 4 @ 100 post-only
        accepted #2
        alice USD: 600 free, 400 locked
        > driven by book
        rejected: OpenOrders
        > alice cancel all
        canceled #2 with 4 open
        alice USD: 1000 free, 0 locked
        > driven by book
        asks 101: 0
        ",
    );
}

#[test]
fn a_halted_symbol_takes_prices_and_fills_nothing() {
    check(
        "
        > deposit alice 1000 USD
        alice USD: 1000 free, 0 locked
        > deposit carol 50 X
        carol X: 50 free, 0 locked
        > driven by carol spread 0% for 5s exposure 20
        > quote 99 / 101
        house: 99 / 101
        asks 101: 20
        > alice buy 1 @ 98
        accepted #1
        alice USD: 902 free, 98 locked
        > halt
        > quote 95 / 97
        house: 95 / 97
        asks 101: 0
        > resume
        > quote 95 / 96
        house: 95 / 96
        accepted #2
        trade 1 @ 96: carol #2 takes from alice #1
        bids 95: 1
        asks 96: 19
        carol X: 49 free, 0 locked
        alice USD: 904 free, 0 locked
        carol USD: 96 free, 0 locked
        alice X: 1 free, 0 locked
        ",
    );
}

#[test]
fn who_rested_pays_as_the_maker_and_who_came_at_once_as_the_taker() {
    check(
        "
        > fees maker 10% taker 20%
        > deposit alice 1000 USD
        alice USD: 1000 free, 0 locked
        > deposit carol 100 X
        carol X: 100 free, 0 locked
        > driven by carol spread 0% for 5s exposure 50
        > quote 9 / 10
        house: 9 / 10
        asks 10: 50
        > alice buy 10 @ 9
        accepted #1
        alice USD: 910 free, 90 locked
        > alice buy 10 @ 11
        accepted #2
        accepted #3
        trade 10 @ 10: alice #2 takes from carol #3
        bids 9: 10
        asks 10: 40
        alice USD: 810 free, 90 locked
        carol X: 90 free, 0 locked
        carol USD: 90 free, 0 locked
        fees USD: 10 free, 0 locked
        alice X: 8 free, 0 locked
        fees X: 2 free, 0 locked
        > quote 8 / 9
        house: 8 / 9
        accepted #4
        trade 10 @ 9: carol #4 takes from alice #1
        bids 9: 0
        bids 8: 20
        asks 10: 0
        asks 9: 30
        carol X: 80 free, 0 locked
        alice USD: 810 free, 0 locked
        carol USD: 162 free, 0 locked
        fees USD: 28 free, 0 locked
        alice X: 17 free, 0 locked
        fees X: 3 free, 0 locked
        ",
    );
}
