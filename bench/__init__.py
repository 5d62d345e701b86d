"""The benchmark kit: what a call through Tollhouse costs beside a plain nginx, measured in one run.

How it measures, and why:

1. One core belongs to the gateway, another to the load generator and the mock upstream. So a gateway cannot borrow the
   idle time of its surroundings, and its CPU clock says what it alone has used.
2. The main figure is the *CPU time per call* of the gateway's processes, read from the kernel's own account, and not
   requests per second: it stays meaningful when the load generator is the slower side.
3. Figures of one machine at one moment mean little; ratios do. Every round measures all gateways in turn, a ratio is
   taken inside a round, and the median over the rounds is reported with its spread.
4. CPU that somebody else used on the two cores is measured too. A run that was disturbed says so.

    python -m bench                 the whole table
    python -m bench --json --quick  one JSON object on stdout, under three minutes
"""
