# SPDX-License-Identifier: Apache-2.0
"""The workstation half of covid-edge: trains, quantises, measures and bundles.

Imported as ``covid_edge_convert``; installed with ``pip install "covid-edge[convert]"``.
"""
