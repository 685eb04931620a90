//! What each storm is about, in a few sentences.

/// What there is to see. It is HTML.
pub(super) fn story(letter: char) -> &'static str {
    match letter {
        'a' => {
            "A server that can do 300 calls a second has 280, when nothing gets on for 5 s (4 s in real \
             time). The naive fleet gives each call up after a second and sends it anew, once: that is 560 calls a second for as long as the \
             queue is longer than a second, and the server does only what its callers have given up. A retry of \
             Redial's joins the call that is queued; calls whose time is up are dropped unrun; what is too \
             much is refused at once, and the retries of that obey a budget."
        }
        'b' => {
            "A server that can do 4,000 calls a second, of 1 ms each (in real time 800, of 5 ms), has 1.4 times and then 3 times as many. \
             Without a limit on how long calls wait, all of them wait for longer than their callers do. With one, \
             those that are admitted are served at once, and the rest hear at once that they are not."
        }
        'c' => {
            "Eight principals share a server. Seven send half of their shares; from the middle on the eighth sends \
             twelve times its own. First come, first served means that all wait for it. By turns, it waits for \
             itself."
        }
        'd' => {
            "For 20 s each call takes 1.2 s, where attempts are given up after one. A retry that is a new call is \
             executed again, and given up again. One that carries the id of the call joins it, and the reply that \
             comes late still counts."
        }
        'e' => {
            "A server is restarted, and all its clients come back. It takes 4,000 connections a second, and a \
             backlog as long. Clients that all wait for the same time come all at once, again and again; those \
             that wait for random times spread. Here a connection that is refused costs the server nothing, so both \
             fleets are served about as soon as it takes connections; only one of them executes no call twice."
        }
        'f' => {
            "One endpoint of ten loses its power: what is sent to it disappears. Each client has to find that out \
             for itself, by calls that get no answer, and then leaves it alone but for a try now and then."
        }
        'g' => {
            "One endpoint of ten becomes ten times slower, and goes on answering. A client that goes by the calls \
             which it has in flight sends it less, without being told; one that goes round sends it a tenth."
        }
        'h' => {
            "A call that takes 2 s is sent a thousand times a second: by a program that is started again and \
             again, or by a balancer gone wrong. With one id all of these are one call, and wait for it without \
             a worker."
        }
        'i' => {
            "A database that makes up to 16 calls durable with each commit takes 200 ms for one instead of 5, for \
             five seconds. What is queued then is more than it can ever do for those who wait."
        }
        _ => "",
    }
}
