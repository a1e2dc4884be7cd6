//! What every bus keeps to: each test of [`streams`], [`buckets`], [`leases`], [`spools`], [`fleets`] and [`refusals`] runs on the
//! embedded bus and on a NATS server of its own. `NEARCAST_NATS_SERVER` names its binary; without it the tests on NATS
//! say that they are skipped.

mod buckets;
mod embedded_only;
mod fleets;
mod ground;
mod leases;
mod nats_only;
#[path = "../../../tests/support/port.rs"]
mod port;
mod refusals;
mod spools;
mod streams;

/// Makes two tests of each name: one on each kind of bus.
macro_rules! contract {
    ($($module:ident: $($name:ident),+;)+) => {
        mod embedded {
            use super::ground::{Ground, TestResult};
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> TestResult {
                    super::$module::$name(&Ground::embedded()?).await
                }
            )+)+
        }

        mod nats {
            use super::ground::{Ground, TestResult};
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> TestResult {
                    let Some(ground) = Ground::nats(&["-js"])? else { return Ok(()) };
                    super::$module::$name(&ground).await
                }
            )+)+
        }
    };
}

contract! {
    streams:
        records_are_read_in_order_from_any_place,
        the_same_id_is_appended_once,
        partitions_are_apart,
        many_appending_at_once_lose_nothing,
        a_tail_waits_for_what_is_appended_later,
        everything_is_there_after_reopening,
        a_full_stream_lets_go_of_its_oldest_and_says_what_is_gone,
        a_full_stream_may_refuse_until_it_is_trimmed,
        what_is_trimmed_is_a_gap,
        limits_may_be_changed_in_place;
    buckets:
        entries_are_replaced_only_by_who_has_seen_them,
        revisions_grow_over_all_keys,
        of_many_who_replace_at_once_one_wins,
        a_watch_tells_what_is_there_and_what_changes,
        entries_are_there_after_reopening,
        a_full_bucket_refuses;
    leases:
        one_of_two_holds_and_the_other_follows_when_it_lets_go,
        a_holder_that_dies_is_followed_with_a_greater_token,
        clocks_that_are_an_hour_apart_do_not_matter;
    spools:
        everything_is_published_once_and_in_order,
        what_does_not_fit_is_refused_and_counted,
        a_full_stream_is_waited_for;
    fleets:
        members_share_and_one_that_leaves_hands_over,
        every_record_counts_once_although_members_die,
        a_checkpoint_that_cannot_be_read_stops_its_partition_alone,
        one_that_has_lost_a_partition_cannot_write_its_checkpoint;
    refusals:
        what_a_newer_program_wrote,
        another_number_of_partitions,
        what_is_not_there_and_may_not_be_made,
        a_clock_that_is_an_hour_behind,
        names_payloads_and_partitions_that_cannot_be;
}
