//! What can be wrong with a transport.

faults! {
    /// The transport as it should be: it shows that the rest of it is not to blame.
    #[default]
    None,

    // What arrives.
    AnEventIsAcceptedAndLost,
    AnEventArrivesTwice,
    /// It is handed to a buffer, which the next call empties.
    AcceptedBeforeTheBrokerHasIt,
    TheTypeIsCutOff,
    TheTypeIsInLowerCase,
    UnusualTypesFailForEver,
    UnusualTypesAreAcceptedAndLost,
    LargeIntegersBecomeFloats,
    NulCharactersAreDropped,
    ThePartitionKeyIsDropped,
    TheResourceIdIsNoKey,
    HeadersAreDropped,
    TheTraceIsDropped,
    HeadersStayForTheNextEvent,
    HeadersOverwriteAttributes,
    /// A line break within a value begins another header.
    HeadersAreInjected,
    HeadersThatTheProtocolHasNoFormForFailForEver,
    AnEventPublishedAgainIsAnError,

    // The report.
    AnIdIsForgotten,
    AnIdIsReportedTwice,
    AnEmptyBatchIsReportedOn,
    /// One report is shared by all calls.
    ReportsOfConcurrentBatchesAreMixed,
    /// Its answers are taken for those of the next call.
    ACallThatIsGivenUpSpoilsTheNext,

    // Order.
    ABatchIsReversed,
    /// All at once, the larger ones later.
    ABatchOvertakesItself,
    WhatFollowsAFailedEventIsPublished,
    AfterAnOutageAnEventIsOvertaken,

    // What is refused.
    TooLargeIsFailed,
    TooLargeIsUnavailable,
    TooLargeIsAcceptedAndLost,
    ARefusedEventStopsTheBatch,
    ARefusedEventStopsTheTransport,
    TheWrongEventIsBlamed,

    // Outages.
    ADownBrokerIsAFailedEvent,
    ADownBrokerIsARejectedEvent,
    ADownBrokerHangs,
    ABrokerThatIsBackIsNotUsed,
    TheBrokerForgets,
    /// The last event is accepted, and was with the operating system.
    TheBrokerForgetsTheLast,

    // A part of the broker.
    APartThatIsAwayIsUnavailable,
    APartThatIsAwayIsRejected,
    /// Its place takes no event, and the broker does not say so.
    APartThatIsAwayIsAcceptedAndLost,
    APartThatIsAwayFailsTheBatch,
    APartThatIsAwayHoldsUpTheRest,
    APartThatIsBackIsNotUsed,
}
