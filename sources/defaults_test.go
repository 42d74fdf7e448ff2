package sources

// Defaults are the streams of a configuration that names none.
func Defaults() []Config {
	stream := func(typ, table string) Config {
		return Config{
			Type: typ, Table: table, ID: "id", Chatbot: "chatbot_id", Created: "created_at", Cursor: CursorAuto,
			Fields: []Mapping{
				{Name: "FirstName", Column: "first_name"},
				{Name: "LastName", Column: "last_name"},
				{Name: "Email", Column: "email"},
				{Name: "PhoneNumber", Column: "phone_number"},
				{Name: "Content", Column: "content"},
				{Name: "SessionID", Column: "session_id"},
				{Name: "URI", Column: "uri"},
			},
			GapKeep: DefaultGapKeep,
		}
	}
	return []Config{stream("Lead", "leads"), stream("Appointment", "appointments")}
}
