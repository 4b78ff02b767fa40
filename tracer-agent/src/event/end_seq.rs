//! The number by which two hosts know that they tell of one connection.

use super::errno::ECONNABORTED;
use super::{SocketEnd, TcpState};

impl SocketEnd {
    /// The sequence number of the FIN or RST that ended the connection first, as the side that sent it counts. The
    /// receiver sees the same number: of a FIN it has acknowledged one byte more, and a RST it takes only where it
    /// expects the next byte (RFC 5961).
    ///
    /// None where neither was sent or is known to have come: a connect that failed, silence, an ICMP error.
    #[must_use]
    pub fn end_seq(&self) -> Option<u32> {
        match (self.old_state, self.new_state) {
            (TcpState::SynSent, _) => None,
            // The peer's FIN came first, whatever followed it.
            (TcpState::CloseWait, _) | (_, TcpState::CloseWait) => Some(self.rcv_nxt.wrapping_sub(1)),
            // Our own FIN follows all that was written, sent or not.
            (_, TcpState::FinWait1) => Some(self.write_seq),
            _ if self.rst_received => Some(self.rcv_nxt),
            // Closed with a RST, or destroyed.
            _ if matches!(self.sk_err, 0 | ECONNABORTED) => self.snd_nxt,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tracer_ebpf::tcp_state as s;
    use tracer_ebpf::wire::{self, flag, kind, role};
    use zerocopy::IntoBytes as _;

    use super::super::{Event, decode};

    /// Has written up to 1000, sent up to 900, and received up to 500.
    fn end_seq(old_state: u8, new_state: u8, sk_err: u32, flags: u32) -> Option<u32> {
        let size = size_of::<wire::SocketEnd>() as u32;
        let record = wire::SocketEnd {
            header: wire::Header { version: wire::VERSION, kind: kind::SOCKET_END, size, ktime_ns: 1 },
            role: role::CLIENT,
            old_state,
            new_state,
            sk_err,
            flags,
            write_seq: 1000,
            snd_nxt: 900,
            rcv_nxt: 500,
            ..wire::SocketEnd::default()
        };
        let Ok(Event::SocketEnd(end)) = decode(record.as_bytes()) else { panic!("not decoded") };
        end.end_seq()
    }

    #[test]
    fn a_fin_has_the_number_after_the_last_byte_on_both_sides() {
        assert_eq!(end_seq(s::ESTABLISHED, s::FIN_WAIT1, 0, 0), Some(1000));
        assert_eq!(end_seq(s::ESTABLISHED, s::CLOSE_WAIT, 0, 0), Some(499));
        // What comes after the peer's FIN changes nothing: our own FIN, or its RST.
        assert_eq!(end_seq(s::CLOSE_WAIT, s::LAST_ACK, 0, 0), Some(499));
        assert_eq!(end_seq(s::CLOSE_WAIT, s::CLOSE, 32, flag::RST_RECEIVED), Some(499));
    }

    #[test]
    fn a_rst_has_the_number_of_the_next_byte_to_send() {
        assert_eq!(end_seq(s::ESTABLISHED, s::CLOSE, 104, flag::RST_RECEIVED), Some(500));
        assert_eq!(end_seq(s::ESTABLISHED, s::CLOSE, 0, 0), Some(900));
        assert_eq!(end_seq(s::ESTABLISHED, s::CLOSE, 103, 0), Some(900));
    }

    #[test]
    fn what_no_segment_ended_has_no_number() {
        assert_eq!(end_seq(s::SYN_SENT, s::CLOSE, 111, flag::RST_RECEIVED), None);
        assert_eq!(end_seq(s::ESTABLISHED, s::CLOSE, 110, 0), None);
        assert_eq!(end_seq(s::ESTABLISHED, s::CLOSE, 113, 0), None);
    }
}
