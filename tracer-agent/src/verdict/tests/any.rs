//! What holds for every story.

use proptest::prelude::*;

use super::*;

#[test]
fn from_the_gateway_alone_nothing_is_proven() {
    for end in [leg(), reset_leg(), closed_leg(), SocketEnd { rst_received: true, ..failed_connect(111) }] {
        let verdict = play(true, vec![Event::SocketEnd(end)]).remove(0);
        assert_eq!(verdict.confidence, Confidence::Inferred, "{verdict:#?}");
    }
}

#[test]
fn each_rule_has_a_name_of_its_own() {
    let mut names: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), RULES.len());
}

prop_compose! {
    fn any_end()(
        states in (0_u8..13, 0_u8..13),
        flags in any::<[bool; 8]>(),
        numbers in any::<[u32; 6]>(),
        sk_err in prop::sample::select(vec![0_u32, 32, 99, 101, 103, 104, 110, 111, 113]),
        server in any::<bool>(),
    ) -> SocketEnd {
        SocketEnd {
            role: if server { Role::Server } else { Role::Client },
            old_state: TcpState::from(states.0),
            new_state: TcpState::from(states.1),
            sk_err,
            rst_received: flags[0],
            pending: flags[1],
            unanswered: flags[2],
            linger0: flags[3],
            no_socket: flags[4],
            actor: flags[5].then(|| process(812, "nginx")),
            marked: flags[6],
            owner_accepts: flags[7],
            unread: numbers[0],
            unacked: numbers[1],
            lsnd_age: numbers[2],
            lrcv_age: numbers[3],
            retransmits: numbers[4],
            bytes_sent: numbers[5].into(),
            ..leg()
        }
    }
}

proptest! {
    #[test]
    fn every_ended_connection_of_a_client_gets_one_verdict_with_words(
        ends in proptest::collection::vec(any_end(), 1..4),
        vantage in any::<bool>(),
    ) {
        let clients = ends.iter().filter(|e| e.role == Role::Client).count();
        let verdicts = play(vantage, ends.into_iter().map(Event::SocketEnd).collect());
        prop_assert_eq!(verdicts.iter().filter(|v| v.role == Role::Client).count(), clients);
        for verdict in verdicts {
            prop_assert!(!verdict.summary.is_empty() && !verdict.evidence.is_empty());
            // Who has the upstream's end sees its process.
            let deduced = verdict.role == Role::Client && vantage;
            prop_assert!(!deduced || verdict.confidence == Confidence::Inferred);
        }
    }
}
