"""The money protocol (DESIGN, section 6) as a model of which every state is visited.

A step is one database transaction, the arrival of a message, or an execution by the gateway. Every
step is optional and may come in any order. What was sent once may arrive at any later time, any
number of times; an answer that was given once may be heard at any later time, any number of times,
by a handler, a repeat or a worker, dead or alive or thought to be dead. So crashes, losses, delays,
duplicates, reorderings and zombies are not steps of their own: they are the freedom of the others.

In the model
- PayOrder, twice under one key and under a second key after a decline; CancelOrder; RefundOrder in
  parts; MarkOrderPaid, FulfillOrder, ArchiveOrder: their first transactions (T1) and their outcomes
  (T2); stored replies, their 24 hours and the reaper; audit entries (`orders`, `outcomes`).
- ProcessPayment from orders and from others, ResolvePayment with its tombstones and its caller,
  SealOrder late and repeated, RefundPayment late or never (`payments`); the feed, whose entries
  come once, and the inbox (`outcomes`).
- The gateway, the age of its keys, and an operator who settles what it does not answer for, against
  a call that may still be on its way; where an operator says what he likes, only the records are
  held to the laws (`gateway`).
- I1 to I4 and I6 to I8 as far as one order can express them. L1, more strictly than by
  reachability: workers' steps never lead back to where they were, so they end; and where they end,
  the order is settled, or waits for a person and is listed (`laws`, `checker`).

Every guard of the protocol has a name (`guards`) and can be taken away. `python -m
tests.faults.model` tells what goes wrong then, in the fewest steps.

Not in the model
- Several orders: ownership, tickets, amounts and currencies that differ, lists, pages.
- The fingerprints of keys (I5), etags, leases and deadlines: they only forbid steps which are safe
  here, at any time, by anybody. The short memory of replies.
- How transactions are kept apart: a transaction is one step, except where a lock is taken away.
- Clocks. Time passes for one key at a time, and no process sleeps between its look at a gateway
  key's age and the call for as long as the gateway still remembers that key.
- The order of events among several payments, and gaps in the feed.
"""
