"""A kept request with everything that the sentences about it mention. Each word is a property, as HTML."""

from lucid_gateway.explorer.cases.account import AccountWords
from lucid_gateway.explorer.cases.address_rules import AddressRuleWords
from lucid_gateway.explorer.cases.cluster import ClusterWords
from lucid_gateway.explorer.cases.frequency import FrequencyWords
from lucid_gateway.explorer.cases.limits import LimitWords


class Case(ClusterWords, LimitWords, AddressRuleWords, AccountWords, FrequencyWords):
    """The words of one request. Rows of other tables are read once, and only for the words that need them."""
