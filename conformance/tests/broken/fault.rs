//! What can be wrong with a store.

faults! {
    /// The wrapper alone: it shows that the wrapper is not to blame.
    #[default]
    None,
    /// None either: the contract allows it.
    ClaimsTakeOneEventOfAKey,

    // Events.
    /// A child is given the idempotency key of its parent, and so is taken for a duplicate.
    ChildInheritsTheIdempotencyKey,
    /// They are stored, and whoever reads the event does not get them.
    PartitionKeyAndHeadersGetLost,
    UnknownMetaFieldsGetLost,
    /// Only claims forget them.
    ClaimsForgetHeaders,
    ClaimsForgetUnknownMetaFields,
    TimesAreCutToSeconds,
    InvalidTypesAreTaken,
    LargeIntegersBecomeFloats,
    ZeroLosesItsSign,
    NulCharactersAreDropped,
    EmptyObjectsBecomeNull,
    LongListsAreCutOff,
    /// One by one or in a batch.
    SessionsForgetUnknownMetaFields,
    BatchesOfSessionsMakeFloatsOfLargeIntegers,
    ExtraFieldsLoseTheSignOfZero,
    /// And a key that has one is refused.
    NulCharactersOfHeadersAreDropped,
    EmptyTextsAreAbsent,
    TypesAreCountedInUtf16,
    TimesAreNanoseconds,

    // Save.
    SaveIgnoresItsSession,
    ADroppedSessionCommits,
    SavesInASessionAreReversed,
    BatchesAreReversed,
    ABadBatchIsHalfStored,
    ADuplicatePoisonsTheSession,
    ADuplicateInASessionHoldsUpAll,
    ADuplicateIsAnError,
    ADuplicateReplacesTheFirst,
    DeliveredIdsAreForgotten,
    ABatchSaysStoredForDuplicates,
    IdempotencyKeysAreIgnored,
    DeliveredIdempotencyKeysAreForgotten,
    IdempotencyKeysFoldCase,
    IdempotencyKeysAreCutOff,
    PurgedKeysStayTaken,
    /// As if its event were there for ever.
    ASettlementFreesNoIdOrKey,
    /// To others that save in a session.
    WhatAnOpenSessionHasSavedIsADuplicate,
    TheKeyOfAnOpenSessionIsADuplicate,
    AnErrorRollsBack,
    AnErrorCommits,
    NotBeforeIsIgnored,
    AHiddenEventIsHiddenForEver,
    /// At once.
    OnlySomeHiddenEventsBecomeDue,
    NowAndThenASaveIsLost,

    // Order.
    OrderByTheApplicationClock,
    OrderById,
    ACursorSkipsLateCommits,
    GapsAreWaitedFor,

    // get_pending.
    LastInFirstOut,
    TheLimitIsIgnored,
    TheLimitIsOneTooMany,
    AFetchTakesWhatItReturns,
    UndecodableRowsAreAnError,
    UndecodableRowsAreDropped,

    // acknowledge.
    AcknowledgeDoesNothing,
    AcknowledgeMovesTheDeliveryTime,
    AcknowledgeRefusesUnknownIds,
    AcknowledgeTakesAllBefore,
    ABatchAcknowledgeForgetsOne,
    ABatchAcknowledgeLeavesTheLeases,
    ABatchAcknowledgeLeavesTheRetries,
    AcknowledgeTouchesTheDead,

    // purge.
    PurgeTakesPending,
    PurgeTakesTheDead,
    PurgeIgnoresTheAge,
    PurgeGoesByTheEventsOwnTime,
    PurgeMiscounts,
    AgesAreCutToSeconds,

    // Claims.
    AClaimIgnoresItsLimit,
    AClaimIgnoresItsTypes,
    AClaimTakesTheNewest,
    ClaimsGoByTheApplicationClock,
    ClaimsGoById,
    ClaimsSkipLateCommits,
    ClaimsWaitForOpenSessions,
    ClaimsOverlap,
    /// And so hands out what others have.
    AHandleHeedsItsOwnLeasesOnly,
    /// By what comes after it in its key.
    WhatHasBecomeDueIsOvertaken,
    ALeaseIsOfItsHandle,
    LeasedEventsArePending,
    LeasesNeverRunOut,
    ALeaseHoldsBeyondItsEnd,
    AClaimOfSomeTypesIgnoresKeys,
    AClaimOfSomeTypesTakesAllOfAKeyThatHasWaited,
    /// Whoever has the worker's name has the lease.
    OwnershipWithoutAFence,
    ALateSettlementTakes,
    RenewingBringsALostLeaseBack,
    RenewingDoesNothing,
    /// They read the leases before they wait for one another, and write them as they were then.
    SettlementsAtTheSameTimeUndoOneAnother,
    /// Likewise.
    ARenewalBesideASettlementIsUndone,
    RenewingMakesNoLeaseShorter,
    /// The second event of a key is handed out while the first is in flight.
    KeysAreIgnored,
    AnEmptyKeyIsNone,
    PartitionKeysFoldCase,
    PartitionKeysAreCutOff,
    AResourceIdIsAnotherKey,
    EventsOfSessionsHaveNoKey,
    HiddenEventsHaveNoKey,
    AWaitingKeyHoldsUpAll,
    ASettlementThatIsForgottenIsReported,
    AcknowledgeLeavesTheLease,
    AttemptsAreKeptInMemory,
    /// And lost when it is closed.
    AttemptsAreKeptByTheHandle,
    HoldsAreKeptByTheHandle,
    DuplicatesAreKnownByTheHandle,
    ReleasingCostsAnAttempt,
    RetriesDoNotWait,
    DeadLettersAreTriedAgain,
    ADeadLetterBlocksItsKey,
    TheErrorGetsLost,
    ALongErrorIsCutShort,
    /// Of a dead letter.
    EveryAttemptIsAFailure,
    APageOfNoneHasOne,
    ARetryForEverIsDueAtOnce,
    ALeaseForEverIsNone,
    ARenewalForEverIsNone,
    ALeaseOfNoTimeNeverEnds,
    LeasesAreCutToSeconds,
    RenewalsAreCutToSeconds,
    DelaysAreCutToSeconds,
    ARetriedEventForgetsWhenItWasHidden,
    NoTypeIsEveryType,
    AClaimIgnoresTheCaseOfItsTypes,
    FailuresOfOneCallShareAnError,
    TheLastOfTwoSettlementsCounts,
    HeldKeysAreHandedOut,
    HoldsAreNotTold,
    AHoldHoldsUpAll,
    AHoldEndsInTime,
    AnAcknowledgeEndsTheHold,
    ARequeuedEventComesLast,
    OneRequeueEndsAllHolds,
    ADiscardDoesNotEndTheHold,
    UndecodableRowsAreLeased,
    /// And finds what comes after them the next time, or never.
    AClaimGivesUpAfterManyThatWait,
    WhatAClaimLeavesOfWaitingKeysIsForgotten,
    AClaimOfSomeTypesGivesUpAfterManyOfOthers,

    // Dead letters.
    TheRawContentGetsLost,
    RowsWithoutAnIdShareOne,
    ALargeRowIsAnError,
    TheTimesOfAFilterAreCutToMilliseconds,
    ALastPagePromisesAnother,
    /// And not behind the last letter of the one before.
    APageBeginsAfterSoMany,
    OnlySomeAreRequeued,
    OnlySomeAreDiscarded,
    APageIsCutBeforeItIsFiltered,
    ARequeueOfAllIgnoresTheTimes,
    ADiscardOfAllIgnoresTheTimes,
    /// To the microsecond before.
    TheTimesOfAFilterAreCutOff,
    AFilterIgnoresTheCaseOfItsType,
    AFilterTakesItsTypeForAPattern,
    APageOfAllOverflows,
    DeadLettersForgetHeaders,
    ARequeueForgetsUnknownMetaFields,
    TheIdOfADeadEventIsFree,
    ARequeueFreesTheIdempotencyKey,

    // Retention.
    DeliveredEventsAreNotKept,
    DeliveredEventsAreNotDeleted,

    // The schema.
    MigratingAgainEmptiesTheOutbox,
    OnlyOneMayMigrate,
    WhatIsNotFitIsMigrated,
    VerifySaysThatAllIsWell,
    VerifyMigrates,
    AllNamesAreOneOutbox,
    SettlementsReachOtherOutboxes,
    AcknowledgementsReachOtherOutboxes,
    PurgesReachOtherOutboxes,
    RequeuesReachOtherOutboxes,
    DiscardsReachOtherOutboxes,
    LongNamesAreCutOff,
    TheErrorOfTheDriverGetsLost,
    AMissingTableCommits,

    // Names.
    AnyNameIsTaken,
    OnlyEmptyNamesAreRefused,
    /// Where there is room for as many characters.
    NamesAreCountedInBytes,
    ARefusalDoesNotSayTheName,
    NamesAreTrimmed,
    AllNamesAreOneInbox,
    AnotherNameLosesTheRetention,
    AnotherNameIsNotSaid,
    WhatIsSpoiltIsNotSaid,
    WhatWasMadeByHandIsMissing,
    AMigrationRefusesWhatWasMadeByHand,
    SomethingElseIsTakenOver,
    SomethingElseIsWrittenTo,
    ARefusedMigrationEmptiesWhatIsThere,
    WhatIsInTheWayIsNotSaid,
    AnInboxIsMadeOfAnOutbox,
    AnOutboxIsMadeOfAnInbox,
    AnOutboxIsMadeAPartOfAnother,
    APartOfAnOutboxIsMadeAnother,
    /// Up to what is in the way.
    HalfAnOutboxIsMade,
    MigratingAgainForgetsTheMarks,
    /// Whatever is missing, all is made anew.
    PuttingBackLosesTheRest,
    VerifyTakesNamesForPatterns,
    VerifyAsksOnlyWhetherTheNameIsTaken,
    VerifyNamesOnePartOnly,
    VerifyForgetsIndexes,
    VerifyDoesNotSayWhatToDo,
    VerifyPutsBackWhatIsMissing,
    VerifyKnowsNoNewerVersion,
    ANewerSchemaIsMigrated,
    /// It is refused once, and its version is lowered.
    ANewerSchemaIsMadeOld,

    // What is made by hand.
    ThePlainSqlIsEmpty,
    ThePlainSqlMakesAnotherName,
    ThePlainSqlForgetsAPart,
    ThePlainSqlStartsAnew,
    ThePlainSqlOfAnInboxMakesAnOutbox,

    // What expires.
    PendingEventsExpire,
    HiddenEventsExpire,
    LeasedEventsExpire,
    DeadLettersExpire,
    DeliveredEventsNeverExpire,
    ExpiryIgnoresTheAge,
    ExpiryGoesByTheEventsOwnTime,
    MarksNeverExpire,
    AllMarksExpire,
    /// By what was told of the outbox.
    MarksExpireAsEventsDo,
    WhatWasToldFirstStays,
    NoTimeToLiveIsNotTold,
    FractionsOfSecondsAreCutOff,
    ALongTimeToLiveOverflows,
    /// By the handle, when it is made.
    ATimeToLiveIsToldWithoutAMigration,
    OutboxAndInboxAreToldTheSame,
    AnotherTimeToLiveEmptiesTheOutbox,
    AnotherTimeToLiveStopsTheStore,
    VerifyDoesNotAskWhatWasTold,
    VerifyForgetsWhatIsNoLongerWanted,
    VerifyDoesNotRound,
    AnotherNameLosesTheTimeToLive,

    // What is written elsewhere.
    WhatIsWrittenElsewhereIsSetAside,
    WhatIsWrittenElsewhereHasOneKey,
    OnlySomeThatAreWrittenElsewhereAreFound,
    WhatIsFilledInElsewhereIsNotCounted,
    WhatIsFilledInElsewhereIsNeverDelivered,
    WhatIsFilledInElsewhereNeverFails,
    NumbersThatAreWrittenElsewhereAreFloats,
    KindsThatAreWrittenElsewhereAreNull,
    WhatIsWrittenElsewhereHasNoAge,
    WhatIsDeliveredElsewhereIsPending,
    WhatIsSavedHasNoMetaElsewhere,
    WhatDiesElsewhereIsNotListed,
    /// It is shown by another than it is found by.
    WhatDiesElsewhereHasAnotherTime,
    WhatDiesElsewhereWithoutATimeDiedLongAgo,
    WhatDiesElsewhereMakesPagesLonger,
    WhatDiesElsewhereIsLeftByARequeueOfAll,
    WhatDiesElsewhereIsLeftByADiscardOfAll,

    // What is lost.
    ALossIsNotTold,
    ALossIsOverlooked,
    ALossHasNoName,
    ALossDoesNotSayWhatToDo,
    ALossIsNotPutBack,
    PuttingBackForgetsWhatIsHeld,
    PuttingBackForgetsWhatWaits,

    // What the engine refuses.
    ARefusedEventIsADuplicate,
    ARefusedEventOfABatchIsADuplicate,
    ARefusedEventOfABatchInASessionIsADuplicate,
    /// It is told by how many were not stored.
    ARefusedEventBesideADuplicateIsOneToo,
    /// Each in a transaction of its own.
    ALongBatchIsStoredInParts,
    /// And the next one goes on where it was refused.
    ARefusedBatchIsLeftOpen,
    ARefusedBatchStaysInItsSession,
    ARefusedEventIsAConflict,
    ARefusedEventIsOfTheSchema,
    ARefusedEventAsksForAMigration,
    AnyUniqueIndexIsThatOfTheOutbox,
    AUniqueIndexIsKnownByTheEndOfItsName,

    // Faults of the engine.
    ADeadlockIsOfNoKind,
    OnlyTheFirstOfItsKindIsKnown,
    AShutdownIsAConflict,
    AFullDiskIsWaitedFor,
    TheErrorOfTheEngineGetsLost,
    AFaultInASessionIsTriedAgain,
    AFaultCommitsTheSession,
    AHandleThatHasFailedFailsForEver,
    /// It has no connection left that it has not failed on.
    AHandleIsWornOutByFaults,
    ASaveThatFailedIsReported,
    ASaveThatFailedIsStored,
    ASaveThatFailedIsStoredInPart,
    ConflictsAreNotTriedAgain,
    ConflictsAreTriedAgainForEver,
    WhateverFailsIsTriedAgain,
    WhatNobodyKnowsIsNotAskedForAgain,
    AnAcknowledgementThatFailedIsReported,
    AnAcknowledgementThatFailedIsDoneInPart,
    APurgeThatFailedIsReported,
    /// For a day.
    AClaimThatFailedKeepsItsEvents,
    ARenewalThatFailedEndsTheLease,
    ASettlementThatFailedTakesInPart,
    ARequeueThatFailedIsDone,
    ADiscardThatFailedIsReported,
    AMarkThatFailedIsADuplicate,
    AMarkThatFailedIsThere,
    APurgeOfMarksThatFailedIsDone,

    // Stats.
    LeasedEventsAreCountedAsPending,
    HiddenEventsAreNotCounted,
    OpenSessionsAreCounted,
    TheOldestIsThatOfTheEventsOwnTime,
    TheOldestMayBeDelivered,
    TheOldestMayBeNeitherHiddenNorWaiting,
    TheOldestDueMayBeHidden,
    WhatIsLeasedIsNotDue,
    WhatIsBehindARetryIsDue,
    WhatIsRequeuedIsDueSinceThen,
    UndecodableRowsAreNotCounted,

    // Costs.
    AFetchReadsAll,
    /// What is delivered or dead.
    AClaimReadsWhatIsDone,
    /// One after the other, each time.
    AClaimStepsOverWhatWaits,
    /// And steps over the others each time.
    AClaimPutsFewAsideAtOnce,
    AClaimInVainReadsAll,
    ASettlementReadsAll,
    ASaveReadsAll,
    AnAcknowledgementReadsAll,
    APurgeReadsAll,

    // Wake-ups.
    WakeupsNeverCome,
    /// With the save, and never again.
    WakeupsComeBeforeTheCommit,
    CommitsOfOthersAreNotHeard,
    OneListenerIsWoken,
    CommitsBeforeTheWaitAreMissed,
    ADroppedWaitLosesTheWakeup,
    OnlyTheFirstCommitWakes,
    WakeupsComeAllTheTime,
    AListenerDiesWithItsConnection,
    OthersAreHeardOnTheFirstConnectionOnly,
    AnOpenSessionWakesAllTheTime,
    DeliveriesWake,
    /// For all who listen on one handle.
    TheFirstRuntimeHearsForAll,
    TheFirstRuntimeTellsForAll,
    ACommitWakesAgainAndAgain,
    OnlyTheNewestWakes,
    OnlyTheLastOfSeveralSessionsWakes,
    ABatchInASessionWakesNobody,
    OnlyAnIdleProcessWakes,
    ARequeueDoesNotWake,
    ARequeueOfAnotherProcessWakesNobody,
    ARequeueOfNothingWakes,

    // Outages.
    /// Each in a transaction of its own.
    ABatchIsSavedOneByOne,
    ASaveThatWasCutOffIsReported,
    /// And is a duplicate to it, when it is made again.
    ASaveThatWasCutOffIsRememberedByTheHandle,
    /// By an error that says not to try again.
    WhatWasCutOffIsNotTriedAgain,
    TheErrorOfTheNetworkGetsLost,
    RowsAndEventsAreCommittedApart,
    /// It connects anew in the middle of it.
    ASessionForgetsWhatWasCutOff,
    AnAcknowledgementThatWasCutOffIsReported,
    /// By the number that was counted before.
    APurgeThatWasCutOffIsReported,
    /// And finds nothing, the second time.
    APurgeIsMadeAgainBehindTheScenes,
    APurgeIsDoneAtOnce,
    AFetchThatWasCutOffIsEmpty,
    AHandleNeverConnectsAgain,
    AnOutageIsAConflict,
    AnOutageIsWaitedForWithoutEnd,
    /// Although it was said to have failed.
    WhatFailedInAnOutageIsDoneAfterIt,
    AClaimThatWasCutOffLosesItsEvents,
    /// Before the server has said that the leases are written.
    AClaimThatIsRolledBackIsHandedOut,
    SettlementsAreMadeOneByOne,
    ASettlementThatWasCutOffIsReported,
    /// And has lost the lease, the second time.
    ASettlementIsMadeAgainBehindTheScenes,
    ARenewalThatWasCutOffEndsTheLease,
    ARenewalThatWasCutOffIsReported,
    ARequeueThatWasCutOffIsReported,
    AttemptsAreForgottenAfterTheRequeue,
    WhatWasCutOffIsCountedTwice,
    WhatWasCutOffIsPendingUntilItIsMadeAgain,
    /// Though it is made again.
    WhatWasCutOffIsMarkedLater,
    /// As by a lock of the server's that nobody gives back.
    ARenewalThatWasCutOffHoldsUpAll,
    WhatADroppedCallHasBegunIsLeftOpen,
    LeasesEndWithTheConnection,
    AListenerGivesUp,
    AListenerConnectsWithoutAPause,
    AnOutageWakesAllTheTime,
    WhatCameInAnOutageIsNotHeard,
    /// Its new connection is told nothing.
    AListenerIsDeafAfterAnOutage,
    CallsAboutNothingAskTheServer,
    AClaimInVainAsksAgainAndAgain,
    AClaimAsksAgainWhereNothingIsLeased,
    ABatchOfOneIsATransaction,
    AnAcknowledgementIsATransaction,
    ASettlementIsMadeTwice,
    /// Of calls that other ones come in between.
    AClaimHandsOutWhatItHasSeen,
    AClaimSeesNotAllThatHasComeSince,
    AClaimLosesWhatFailsMeanwhile,
    AClaimLooksAgainWithoutEnd,
    ASettlementGoesByWhatItHasSeen,
    ARenewalGoesByWhatItHasSeen,
    AnAcknowledgementGoesByWhatItHasSeen,
    ARequeueGoesByWhatItHasSeen,
    ALostLeaseHoldsUpItsKey,
    /// The first one after it.
    AClaimStopsAtWhatWasAcknowledged,
    EachListenerConnects,
    AListenerAsksAllTheTime,
    /// And is not told again.
    ACommitIsToldOnce,

    // The inbox.
    EveryDeliveryIsNew,
    MarksIgnoreTheirSession,
    ARepeatedDeliveryPoisonsTheSession,
    ConsumersShareTheirMarks,
    ConsumersFoldCase,
    ConsumersAreTrimmed,
    ConsumersAreCutOff,
    AnyConsumerIsTaken,
    TwoAreToldThatItIsNew,
    AnOpenSessionCountsAsProcessed,
    TheInboxPurgesAll,
    TheInboxNeverPurges,
    TheInboxMiscounts,
}
