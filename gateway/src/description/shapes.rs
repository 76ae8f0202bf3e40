//! The shapes of what is answered and sent, in the notation of `notation.rs`, by the names that the documents give them.

/// Every shape, by name.
#[rustfmt::skip]
pub const SHAPES: &[(&str, &str)] = &[
    // Any call.
    ("Error", "{code:int,msg:text,data?:any}"),
    ("Nothing", "{}"),
    ("RateLimit", "{rateLimitType:text,interval:'SECOND'|'MINUTE'|'HOUR'|'DAY',intervalNum:int,limit:int,count?:int}"),
    // General.
    ("ServerTime", "{serverTime:int}"),
    ("ExchangeInfo", "{timezone:text,serverTime:int,rateLimits:[RateLimit],exchangeFilters:[any],symbols:[SymbolInfo]}"),
    ("SymbolStatus", "'TRADING'|'END_OF_DAY'|'HALT'|'BREAK'|'CANCEL_ONLY'"),
    ("SymbolInfo", "{symbol:text,status:SymbolStatus,baseAsset:text,baseAssetPrecision:int,quoteAsset:text,quotePrecision:int,quoteAssetPrecision:int,baseCommissionPrecision:int,quoteCommissionPrecision:int,orderTypes:[OrderType],icebergAllowed:bool,ocoAllowed:bool,otoAllowed:bool,opoAllowed:bool,quoteOrderQtyMarketAllowed:bool,allowTrailingStop:bool,cancelReplaceAllowed:bool,amendAllowed:bool,pegInstructionsAllowed:bool,isSpotTradingAllowed:bool,isMarginTradingAllowed:bool,filters:[any],permissions:[text],permissionSets:[[text]],defaultSelfTradePreventionMode:SelfTradePrevention,allowedSelfTradePreventionModes:[SelfTradePrevention]}"),
    ("ExecutionRules", "{symbolRules:[{symbol:text,rules:[{ruleType:'PRICE_RANGE',bidLimitMultUp:decimal,bidLimitMultDown:decimal,askLimitMultUp:decimal,askLimitMultDown:decimal}]}]}"),
    // Market data.
    ("Level", "[decimal,decimal]"),
    ("Depth", "{lastUpdateId:int,bids:[Level],asks:[Level]}"),
    ("Trade", "{id:int,price:decimal,qty:decimal,quoteQty:decimal,time:int,isBuyerMaker:bool,isBestMatch:bool}"),
    ("AggregateTrade", "{a:int,p:decimal,q:decimal,f:int,l:int,T:int,m:bool,M:bool}"),
    ("BlockTrade", "{id:int,price:decimal,qty:decimal,quoteQty:decimal,time:int,isBuyerMaker:bool}"),
    ("Kline", "[int,decimal,decimal,decimal,decimal,decimal,int,decimal,int,decimal,decimal,decimal]"),
    ("AveragePrice", "{mins:int,price:decimal,closeTime:int}"),
    ("MiniTicker", "{symbol:text,openPrice:decimal,highPrice:decimal,lowPrice:decimal,lastPrice:decimal,volume:decimal,quoteVolume:decimal,openTime:int,closeTime:int,firstId:int,lastId:int,count:int}"),
    ("WindowTicker", "{..MiniTicker,priceChange:decimal,priceChangePercent:decimal,weightedAvgPrice:decimal}"),
    ("DayTicker", "{..WindowTicker,prevClosePrice:decimal,lastQty:decimal,bidPrice:decimal,bidQty:decimal,askPrice:decimal,askQty:decimal}"),
    ("PriceTicker", "{symbol:text,price:decimal}"),
    ("BookTicker", "{symbol:text,bidPrice:decimal,bidQty:decimal,askPrice:decimal,askQty:decimal}"),
    ("ReferenceQuote", "{symbol:text,bidPrice:decimal|null,askPrice:decimal,source:text,sourceTime:int,time:int}"),
    ("ReferencePrice", "{symbol:text,referencePrice:decimal|null,timestamp:int}"),
    ("ReferenceCalculation", "{symbol:text,calculationType:'ARITHMETIC_MEAN'|'EXTERNAL',externalCalculationId?:int,bucketCount?:int,bucketWidthMs?:int}"),
    // Orders.
    ("Side", "'BUY'|'SELL'"),
    ("OrderType", "'LIMIT'|'MARKET'|'LIMIT_MAKER'|'STOP_LOSS'|'STOP_LOSS_LIMIT'|'TAKE_PROFIT'|'TAKE_PROFIT_LIMIT'"),
    ("TimeInForce", "'GTC'|'IOC'|'FOK'"),
    ("OrderStatus", "'NEW'|'PENDING_NEW'|'PARTIALLY_FILLED'|'FILLED'|'CANCELED'|'EXPIRED'|'EXPIRED_IN_MATCH'"),
    ("SelfTradePrevention", "'NONE'|'EXPIRE_TAKER'|'EXPIRE_MAKER'|'EXPIRE_BOTH'|'DECREMENT'|'TRANSFER'"),
    ("ExpiryReason", "'UNFILLED_IOC_QUANTITY_EXPIRED'|'UNFILLED_FOK_ORDER_EXPIRED'|'INSUFFICIENT_LIQUIDITY'|'EXECUTION_RULE_PRICE_RANGE_EXCEEDED'|'OCO_TRIGGER'|'OTO_PHASE_ONE_EXPIRED'|'REJECTED'"),
    ("Conditional", "{stopPrice?:decimal,icebergQty?:decimal,trailingDelta?:int,trailingTime?:int,strategyId?:int,strategyType?:int,preventedMatchId?:int,preventedQuantity?:decimal,pegPriceType?:'PRIMARY_PEG'|'MARKET_PEG',pegOffsetType?:'PRICE_LEVEL',pegOffsetValue?:int,peggedPrice?:decimal}"),
    ("Terms", "{price:decimal,origQty:decimal,executedQty:decimal,origQuoteOrderQty:decimal,cummulativeQuoteQty:decimal,status:OrderStatus,timeInForce:TimeInForce,type:OrderType,side:Side,selfTradePreventionMode:SelfTradePrevention,expiryReason?:ExpiryReason,..Conditional}"),
    ("Ack", "{symbol:text,orderId:int,orderListId:int,clientOrderId:text,transactTime:int}"),
    ("Result", "{..Ack,..Terms,workingTime:int}"),
    ("Fill", "{price:decimal,qty:decimal,commission:decimal,commissionAsset:text,tradeId:int}"),
    ("Full", "{..Result,fills:[Fill]}"),
    ("Placed", "Ack|Result|Full"),
    ("Canceled", "{..Ack,..Terms,origClientOrderId:text}"),
    ("Order", "{symbol:text,orderId:int,orderListId:int,clientOrderId:text,..Terms,workingTime:int,time:int,updateTime:int,isWorking:bool}"),
    ("Tested", "{}|{standardCommissionForOrder:Rates,specialCommissionForOrder:Rates,taxCommissionForOrder:Rates,discount:Discount}"),
    ("Replaced", "{cancelResult:'SUCCESS',newOrderResult:'SUCCESS',cancelResponse:Canceled|CanceledList,newOrderResponse:Placed}"),
    ("Amended", "{symbol:text,orderId:int,orderListId:int,origClientOrderId:text,clientOrderId:text,price:decimal,qty:decimal,executedQty:decimal,preventedQty:decimal,quoteOrderQty:decimal,cumulativeQuoteQty:decimal,status:OrderStatus,timeInForce:TimeInForce,type:OrderType,side:Side,workingTime?:int,selfTradePreventionMode:SelfTradePrevention,..Conditional}"),
    ("AmendAnswer", "{transactTime:int,executionId:int,amendedOrder:Amended,listStatus?:{orderListId:int,contingencyType:Contingency,listOrderStatus:ListOrderStatus,listClientOrderId:text,symbol:text,orders:[ListOrder]}}"),
    ("Amendment", "{symbol:text,orderId:int,executionId:int,origClientOrderId:text,newClientOrderId:text,origQty:decimal,newQty:decimal,time:int}"),
    ("Countdown", "{symbol:text,countdownTime:text}"),
    // Order lists.
    ("Contingency", "'OCO'|'OTO'"),
    ("ListOrderStatus", "'EXECUTING'|'ALL_DONE'|'REJECT'"),
    ("ListOrder", "{symbol:text,orderId:int,clientOrderId:text}"),
    ("OrderList", "{orderListId:int,contingencyType:Contingency,listStatusType:'EXEC_STARTED'|'UPDATED'|'ALL_DONE',listOrderStatus:ListOrderStatus,listClientOrderId:text,transactionTime:int,symbol:text,orders:[ListOrder]}"),
    ("PlacedList", "{..OrderList,orderReports:[Placed]}"),
    ("CanceledList", "{..OrderList,orderReports:[Canceled]}"),
    // Account.
    ("Rates", "{maker:decimal,taker:decimal,buyer:decimal,seller:decimal}"),
    ("Discount", "{enabledForAccount:bool,enabledForSymbol:bool,discountAsset:text,discount:decimal}"),
    ("Account", "{makerCommission:int,takerCommission:int,buyerCommission:int,sellerCommission:int,commissionRates:Rates,canTrade:bool,canWithdraw:bool,canDeposit:bool,brokered:bool,requireSelfTradePrevention:bool,preventSor:bool,updateTime:int,accountType:'SPOT',balances:[{asset:text,free:decimal,locked:decimal}],permissions:[text],uid:int}"),
    ("Commission", "{symbol:text,standardCommission:Rates,specialCommission:Rates,taxCommission:Rates,discount:Discount}"),
    ("AccountTrade", "{symbol:text,id:int,orderId:int,orderListId:int,price:decimal,qty:decimal,quoteQty:decimal,commission:decimal,commissionAsset:text,time:int,isBuyer:bool,isMaker:bool,isBestMatch:bool}"),
    ("PreventedMatch", "{symbol:text,preventedMatchId:int,takerOrderId:int,makerSymbol:text,makerOrderId:int,tradeGroupId:int,selfTradePreventionMode:SelfTradePrevention,price:decimal,takerPreventedQuantity?:decimal,makerPreventedQuantity?:decimal,transactTime:int}"),
    ("Filters", "{exchangeFilters:[any],symbolFilters:[any],assetFilters:[any]}"),
    ("ListenKey", "{listenKey:text}"),
    // Beside /api.
    ("SystemStatus", "{status:int,msg:text}"),
    ("Coin", "{coin:text,name:text,depositAllEnable:bool,withdrawAllEnable:bool,free:decimal,locked:decimal,freeze:decimal,withdrawing:decimal,ipoing:decimal,ipoable:decimal,storage:decimal,isLegalMoney:bool,trading:bool,networkList:[any]}"),
    ("TradeFee", "{symbol:text,makerCommission:decimal,takerCommission:decimal}"),
    ("KeyRestrictions", "{ipRestrict:bool,enableReading:bool,enableSpotAndMarginTrading:bool,enableWithdrawals:bool,enableInternalTransfer:bool,permitsUniversalTransfer:bool,enableMargin:bool,enableFutures:bool,enableVanillaOptions:bool,enablePortfolioMarginTrading:bool,enableFixApiTrade:bool,enableFixReadOnly:bool}"),
    ("NoContracts", "{timezone:text,serverTime:int,rateLimits:[RateLimit],exchangeFilters:[any],assets:[any],symbols:[any]}"),
    // Market streams.
    ("TradeEvent", "{e:'trade',E:int,s:text,t:int,p:decimal,q:decimal,T:int,m:bool,M:bool}"),
    ("AggregateTradeEvent", "{e:'aggTrade',E:int,s:text,a:int,p:decimal,q:decimal,f:int,l:int,T:int,m:bool,M:bool}"),
    ("BookTickerEvent", "{u:int,s:text,b:decimal,B:decimal,a:decimal,A:decimal}"),
    ("DepthEvent", "{e:'depthUpdate',E:int,s:text,U:int,u:int,b:[Level],a:[Level]}"),
    ("PartialDepthEvent", "{lastUpdateId:int,bids:[Level],asks:[Level]}"),
    ("MiniTickerEvent", "{e:'24hrMiniTicker',E:int,s:text,c:decimal,o:decimal,h:decimal,l:decimal,v:decimal,q:decimal}"),
    ("MiniTickersEvent", "[MiniTickerEvent]"),
    ("WindowFields", "{E:int,s:text,p:decimal,P:decimal,w:decimal,c:decimal,o:decimal,h:decimal,l:decimal,v:decimal,q:decimal,O:int,C:int,F:int,L:int,n:int}"),
    ("TickerEvent", "{e:'24hrTicker',..WindowFields,x:decimal,Q:decimal,b:decimal,B:decimal,a:decimal,A:decimal}"),
    ("TickersEvent", "[TickerEvent]"),
    ("WindowTickerEvent", "{e:'1hTicker'|'4hTicker'|'1dTicker',..WindowFields}"),
    ("WindowTickersEvent", "[WindowTickerEvent]"),
    ("AveragePriceEvent", "{e:'avgPrice',E:int,s:text,i:text,w:decimal,T:int}"),
    ("ReferencePriceEvent", "{e:'referencePrice',s:text,r:decimal|null,t:int}"),
    ("KlineEvent", "{e:'kline',E:int,s:text,k:{t:int,T:int,s:text,i:text,f:int,L:int,o:decimal,c:decimal,h:decimal,l:decimal,v:decimal,n:int,x:bool,q:decimal,V:decimal,Q:decimal,B:text}}"),
    ("ServerShutdownEvent", "{e:'serverShutdown',E:int}"),
    ("ResumeRefusedEvent", "{e:'resumeRefused',E:int,stream:text,resumeFrom:int,first:int,last:int,msg:text}"),
    // User events.
    ("ExecutionReport", "{e:'executionReport',E:int,s:text,c:text,S:Side,o:OrderType,f:TimeInForce,q:decimal,p:decimal,P:decimal,F:decimal,g:int,C:text,x:'NEW'|'CANCELED'|'REPLACED'|'REJECTED'|'TRADE'|'EXPIRED'|'TRADE_PREVENTION',X:OrderStatus,r:text,i:int,l:decimal,z:decimal,L:decimal,n:decimal,N:text|null,T:int,t:int,I:int,w:bool,m:bool,M:bool,O:int,Z:decimal,Y:decimal,Q:decimal,W?:int,V:SelfTradePrevention,d?:int,D?:int,j?:int,J?:int,v?:int,A?:decimal,B?:decimal,u?:int,U?:int,Cs?:text,pl?:decimal,pL?:decimal,pY?:decimal,gP?:text,gOT?:text,gOV?:int,gp?:decimal,eR?:ExpiryReason}"),
    ("ListStatusEvent", "{e:'listStatus',E:int,s:text,g:int,c:Contingency,l:text,L:ListOrderStatus,r:text,C:text,T:int,O:[{s:text,i:int,c:text}]}"),
    ("PositionEvent", "{e:'outboundAccountPosition',E:int,u:int,B:[{a:text,f:decimal,l:decimal}]}"),
    ("BalanceEvent", "{e:'balanceUpdate',E:int,a:text,d:decimal,T:int}"),
    ("LockEvent", "{e:'externalLockUpdate',E:int,a:text,d:decimal,T:int}"),
    ("StreamEndEvent", "{e:'eventStreamTerminated',E:int}"),
    ("ListenKeyEndEvent", "{e:'listenKeyExpired',E:int,listenKey:text}"),
    // The two kinds of socket.
    ("StreamRequest", "{method:'SUBSCRIBE'|'UNSUBSCRIBE'|'LIST_SUBSCRIPTIONS'|'SET_PROPERTY'|'GET_PROPERTY',params?:[text|bool],id?:int|text|null}"),
    ("StreamAnswer", "{result:null|[text]|bool,id:int|text|null}|{error:{code:int,msg:text},id:int|text|null}"),
    ("ApiRequest", "{id?:int|text|null,method:text,params?:any}"),
    ("ApiAnswer", "{id:int|text|null,status:int,result?:any,error?:Error,sequence?:int,rateLimits?:[RateLimit]}"),
];

/// What a name stands for.
pub fn shape(name: &str) -> &'static str {
    let found = SHAPES.iter().find(|(known, _)| *known == name);
    found.map(|(_, notation)| *notation).unwrap_or_else(|| panic!("there is no shape {name}"))
}

/// The schemas of all shapes, by name; `reference` stands before a name in `$ref`.
pub fn schemas(reference: &str) -> serde_json::Value {
    let schema =
        |(name, notation): &(&str, &str)| ((*name).to_owned(), super::notation::schema(notation, &shape, reference));
    serde_json::Value::Object(SHAPES.iter().map(schema).collect())
}
