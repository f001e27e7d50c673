"""A history checker in the manner of Jepsen: clients, a nemesis that breaks servers, and a judge of what was seen."""
