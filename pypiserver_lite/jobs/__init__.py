"""Long work on sources and stores: functions that yield what happens, for the command line to show."""
