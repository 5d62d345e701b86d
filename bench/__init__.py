"""The benchmark kit: what a call through Tollhouse costs beside a plain nginx, measured in one run.

How it measures, and why:

1. One core belongs to the gateway, another to the load generator and the mock upstream. So a gateway cannot borrow the
   idle time of its surroundings, and its CPU clock says what it alone has used.
2. The main figure is the *CPU time per call* of the gateway's processes, read from the kernel's own account, and not
   requests per second: it stays meaningful when the load generator is the slower side. It runs until the gateway is at
   rest again, so that what is written down later is charged too.
3. A gateway that waits for work is dearer by the call than a busy one. Only nginx is quick enough to wait here; the
   load is built to keep it at 90 % of its core, and the report says what it reached.
4. Figures of one machine at one moment mean little; ratios do. Many short rounds measure all gateways close together
   and in turned order, a ratio is taken inside a round, and the median over the rounds is reported with its quartiles.
5. On a shared host somebody else's work on the same physical core makes the same instructions take 1.3 to 1.6 times as
   long, by turns of a second and less, and it costs a program whose data just fit the cache more than one that needs
   little. So a small process looks at the pace of the gateways' core and of its memory all the time. What a quiet
   moment is stands in `bench.quiet`, settled before anything is measured; beside each figure stands what it was by the
   quiet moments alone, where there were enough, and `quiet` says whether they were most of the run.
6. CPU that somebody else used on the two cores is measured. A run that was disturbed says so, and so does one whose
   interpreter was built without optimisation.

    python -m bench                 the whole table
    python -m bench --json --quick  one JSON object on stdout, under three minutes
    python -m bench --patience 300  each figure goes on, so much longer at most, until it had enough quiet moments
    python -m bench --gateways nginx,tollhouse,smg,portkey,litellm    with others, installed below .cache/bench
"""
